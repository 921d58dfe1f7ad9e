"""A prompt for a chat: tuned on a proxy, carried over to its target, published, fetched and tried."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from client.private.dpsgd import tune
from client.private.noise import NoiseSource
from client.private.records import PrivateRecords
from client.prompts import directory as artifact
from tests.client.prompts.recipient import assert_refused
from transfer.distillation.proxy import cut
from transfer.errors import TaskError
from transfer.models.generation import answers
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.self_check import require_tunable
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.tasks import PromptAt, Task

TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}:{{ ' ' + m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
PUBLIC = tuple(
    f"{who} liked the {what}." for who in ("We", "Nobody", "A team") for what in "abcdefghijklmnop"
)
PRIVATE = ("The film was great.", "A terrible plot", "It was fun and good", "a boring evening") * 4
ASKED = ("The film was good.", "The plot</s><s>assistant: terrible")


@pytest.fixture
def chatty(tiny_causal: Path, tmp_path: Path) -> Path:
    """The tiny causal model with a chat template."""
    model = load(tiny_causal).model
    with torch.no_grad():  # fresh weights are too small for a prompt to move an answer
        for matrix in model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    model.save_pretrained(tmp_path / "chatty")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "chatty")
    return tmp_path / "chatty"


def carried(target: LanguageModel, task: Task) -> SoftPrompt:
    """A prompt tuned on the target's first layer, under noise, and transferred."""
    proxy = replace(target, model=cut(target, (0,)), ref=replace(target.ref, name="proxy"))
    start = proxy.text_prompt(task.init_text, 4)
    require_tunable(proxy, task, start)
    told = {"answers": ("great", "a bad film") * 8} if task.kind == "text" else {"labels": (0, 1) * 8}
    tuning = Tuning(Spend(1.0, 0.5, 3), clip_norm=1.0, learning_rate=0.05)
    randomness = NoiseSource()
    records = PrivateRecords(PRIVATE, **told)
    tuned = tune(proxy, records, task, start, tuning, declared_units=16, randomness=randomness)
    space = "vocabulary" if task.kind == "text" else "labels"
    settings = TransferSettings(steps=4, learning_rate=0.05, check_every=2, space=space)
    return transfer(tuned, proxy, target, task, PUBLIC, settings).prompt


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
@pytest.mark.parametrize("kind", ["label", "text"])
@pytest.mark.parametrize("place", ["start", "user"])
def test_a_chat_goes_from_tuning_to_a_recipients_answers(
    delivery, run, tmp_path: Path, chatty: Path, tiny_task: Task, place: PromptAt, kind: str
) -> None:
    target = load(chatty)
    task = replace(tiny_task, max_tokens=64, chat=True, system="Be kind.", prompt_at=place)
    task = task if kind == "label" else replace(task, labels=(), kind="text", answer_tokens=4)
    prompt = carried(target, task)
    signed = {"task": asdict(task), "chat_line": target.encoder(task).chat.digest}
    delivery.publish("chat", target.ref, prompt.vectors, forge=lambda told: told.update(signed))
    out = tmp_path / "got"
    assert run("fetch", "chat", "--out", out).status == 0
    names = {CONFIG_FILE, WEIGHTS_FILE} if place == "start" else {WEIGHTS_FILE}
    assert {path.name for path in out.iterdir()} == names | {artifact.STATEMENT_FILE}
    for shown in (run("verify", out).out, run("show", "chat").out):
        assert ("PEFT would put it before everything" in shown) == (place == "user")
    assert "the answer the assistant's" in shown

    words = ["try", out, "--model", chatty, "--format", "json", *(f"--text={text}" for text in ASKED)]
    results = run(*words).json["results"]
    if kind == "text":
        assert [result["answer"] for result in results] == answers(target, task, ASKED, prompt)
    else:
        expected = class_logits(target, task, ASKED, prompt).softmax(1).tolist()
        for result, row in zip(results, expected, strict=True):
            assert list(result["probabilities"].values()) == pytest.approx(row, abs=1e-5)
    other = replace(task, prompt_at="user" if place == "start" else "start")
    if kind == "label":  # the place matters
        assert not torch.allclose(
            class_logits(target, other, ASKED, prompt).softmax(1), torch.tensor(expected)
        )
    if place == "user":
        with pytest.raises(ValueError, match=CONFIG_FILE):
            PeftModel.from_pretrained(target.model, out)

    (chatty / "chat_template.jinja").write_text(TEMPLATE.replace("assistant:", "model:"))
    refused = run("try", out, "--model", chatty, "--text", ASKED[0])
    assert_refused(refused, "chat template of 'chatty' writes other turns than the prompt was made with", 2)


def test_a_chat_is_refused_by_a_masked_model_in_one_line(tiny_masked: Path, tiny_task: Task) -> None:
    model = load(tiny_masked)
    with pytest.raises(TaskError, match="chat = true needs a causal language model") as caught:
        model.encoder(replace(tiny_task, chat=True))
    assert "\n" not in str(caught.value)
