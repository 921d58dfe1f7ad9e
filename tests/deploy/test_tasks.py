"""The task files of deploy/tasks fit the real models and data sets."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from transfer.tasks import Task
from transfer.tokens.encoder import Encoder

FILES = sorted((Path(__file__).parents[2] / "deploy" / "tasks").glob("*.toml"))


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
