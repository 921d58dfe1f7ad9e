"""A prompt's answers on a quantised twin are compared with those on its own target."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.transfer.models.lines import TEXTS
from transfer.models.generation import answers
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.placement.settings import HERE, Placement
from transfer.post.evaluation import class_logits
from transfer.post.twins import Answers
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


@pytest.fixture(scope="module")
def target(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal)


@pytest.fixture(scope="module")
def twin(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal, placement=HERE.twin("nf4"))


def prompt_of(model: LanguageModel, rows: int = 4) -> SoftPrompt:
    return SoftPrompt(torch.randn(rows, 32, generator=torch.Generator().manual_seed(0)), model.ref)


def test_a_twin_is_where_its_model_is_in_numbers_of_its_own() -> None:
    spread = Placement(device="cpu", dtype="float32", max_memory={"cpu": "1GB"}, checkpointing=True)
    assert spread.twin("int8") == spread.model_copy(update={"quantise": "int8", "dtype": "auto"})


@pytest.mark.parametrize("kind", ["tiny_task", "head_task"])
def test_labels_of_a_twin_are_those_it_would_give_itself(
    target: LanguageModel, twin: LanguageModel, kind: str, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(kind)
    prompt = prompt_of(target, 4 + task.head_rows)
    found = Answers.of(target, task, TEXTS, prompt).compared(twin)
    ours, theirs = (class_logits(model, task, TEXTS, prompt) for model in (target, twin))
    same = (ours.argmax(dim=1) == theirs.argmax(dim=1)).float().mean().item()
    chances = ours.softmax(dim=1)
    kl = (chances * (chances / theirs.softmax(dim=1)).log()).sum(dim=1).mean().item()
    assert (found.numbers, found.texts, found.agreement) == ("nf4", len(TEXTS), pytest.approx(same))
    assert found.kl == pytest.approx(kl, rel=1e-3, abs=1e-7)
    assert found.kl > 0


def test_free_text_agrees_where_all_of_it_does(
    target: LanguageModel, twin: LanguageModel, tiny_task: Task
) -> None:
    task, prompt = replace(tiny_task, labels=(), kind="text", answer_tokens=3), prompt_of(target)
    found = Answers.of(target, task, TEXTS, prompt).compared(twin)
    ours, theirs = (answers(model, task, TEXTS, prompt) for model in (target, twin))
    assert found.agreement == sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(TEXTS)


def test_nothing_changes_on_the_same_numbers(target: LanguageModel, tiny_task: Task) -> None:
    found = Answers.of(target, tiny_task, TEXTS, prompt_of(target)).compared(target)
    assert (found.numbers, found.agreement, found.kl) == ("float32", 1.0, 0.0)
