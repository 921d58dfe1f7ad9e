"""The task files of deploy/tasks fit the real models and data sets."""

import json
import os
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from deploy.author import vocabulary
from transfer.tasks import Task
from transfer.tokens.encoder import Encoder

FOLDER = Path(__file__).parents[2] / "deploy" / "tasks"
FILES = sorted(FOLDER.glob("*.toml"))
CHATS = sorted((FOLDER / "chat").glob("*.toml"))
MANY = sorted((FOLDER / "many").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_task_file_is_named_after_its_task(path):
    assert Task.from_toml(path).name == path.stem.replace("_", "-")


@pytest.mark.assets
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_labels_stand_in_the_order_of_the_data(path, assets):
    told = json.loads((assets / "datasets" / path.stem / "labels.json").read_text())
    assert list(Task.from_toml(path).label_names) == told["labels"]


@pytest.mark.assets
@pytest.mark.parametrize(("model", "causal"), [("minilm-l6-mlm", False), ("lab-llama-7m", True)])
def test_every_label_word_is_one_token_of_both_real_models(model, causal, assets):
    tokenizer = AutoTokenizer.from_pretrained(assets / "models" / model)
    for path in FILES:
        Encoder(Task.from_toml(path), tokenizer, causal=causal)  # refuses anything else


@pytest.mark.parametrize("path", CHATS, ids=lambda path: path.stem)
def test_a_chat_has_the_labels_of_its_plain_task(path):
    chat, plain = Task.from_toml(path), Task.from_toml(FOLDER / path.name)
    assert chat.chat
    assert chat.name == f"{plain.name}-chat"
    assert chat.label_names == plain.label_names


@pytest.mark.parametrize("path", MANY, ids=lambda path: path.stem)
def test_a_task_of_several_labels_asks_for_topics_of_the_demos_world(path):
    task = Task.from_toml(path)
    assert task.many
    assert task.name == path.stem
    assert set(task.label_names) == set(vocabulary()["topics"])


@pytest.mark.skipif("PROMPTFERRY_SMOLLM2" not in os.environ, reason="PROMPTFERRY_SMOLLM2 is unset")
def test_every_label_word_of_a_chat_is_one_token_of_the_real_chat_model():
    tokenizer = AutoTokenizer.from_pretrained(os.environ["PROMPTFERRY_SMOLLM2"])
    for path in CHATS:
        Encoder(Task.from_toml(path), tokenizer, causal=True)
