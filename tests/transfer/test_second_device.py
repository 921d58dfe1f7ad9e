"""Every public flow runs wherever the model is, and in its own numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from client.private.dpsgd import tune
from client.private.records import PrivateRecords
from tests.benchmarks.quality_federation import Seeded
from tests.second_device import CARD, card
from transfer.distillation.distil import DistilSettings, distil
from transfer.models.generation import answers
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.public_directions import public_subspace
from transfer.placement.settings import Placement
from transfer.post.evaluation import accuracy
from transfer.post.projection import projected
from transfer.post.settings import Space, TransferSettings
from transfer.post.transfer import transfer
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.tasks import Label, Task

TEXTS = [
    f"the {kind} film was {verdict}"
    for kind in ("first", "second", "old", "new", "long")
    for verdict in ("good", "bad", "fine", "dull")
]
LABELS = tuple([0, 1] * 10)
P = 4


READINGS = ("words", "whole", "head", "text")
SHARES = {torch.float32: 1e-4, torch.bfloat16: 0.2}
"""Largest distance of a prompt from the CPU's, as a share of its length: kernels see other strides on the card."""


def read_by(reading: str, tiny_task: Task) -> Task:
    """A task whose answers are read in this way."""
    if reading == "text":
        return replace(tiny_task, labels=(), kind="text", answer_tokens=3)
    if reading == "head":
        labels = (Label("good", ()), Label("bad", ()))
        return replace(tiny_task, template="{text}", labels=labels, label_reading="head")
    if reading == "whole":
        labels = (Label("good", ("good", "great evening")), Label("bad", ("weatherfood",)))
        return replace(tiny_task, labels=labels, label_reading="whole")
    return tiny_task


def moved(model: LanguageModel, device: torch.device | str, dtype: torch.dtype) -> LanguageModel:
    """The same model elsewhere, in other numbers, and measured there."""
    return LanguageModel(model.model.to(dtype).to(device), model.tokenizer, model.ref, model.lm_head)


def flows(proxy: LanguageModel, target: LanguageModel, task: Task) -> dict[str, torch.Tensor]:
    """The results of every public flow on these models, by name."""
    start = proxy.text_prompt(task.init_text, P).longer(task.head_rows)
    goals = ["good", "bad"] * 10
    records = (
        PrivateRecords(tuple(TEXTS), answers=tuple(goals))
        if task.kind == "text"
        else PrivateRecords(tuple(TEXTS), labels=LABELS)
    )
    tuning = Tuning(Spend(1.0, 0.5, 3), 1.0, 0.05)
    tuned = tune(proxy, records, task, start, tuning, declared_units=20, randomness=Seeded(0))
    owners = replace(records, users=tuple("abcde"[index % 5] for index in range(20)))
    by_user = replace(tuning, spend=Spend(1.0, 0.5, 3, "user"))
    axes = public_subspace(proxy, task, TEXTS, start, 3, 0)
    results = {
        "tuned": tuned.vectors,
        "users": tune(proxy, owners, task, start, by_user, declared_units=5, randomness=Seeded(0)).vectors,
        "subspace": tune(
            proxy, records, task, start, tuning, declared_units=20, randomness=Seeded(0), subspace=axes
        ).vectors,
    }
    space: Space = "vocabulary" if task.kind == "text" else "labels"
    for alpha in (0.0, 0.5, 1.0):
        settings = TransferSettings(
            alpha=alpha, steps=3, check_every=3, learning_rate=0.01, start="text", space=space
        )
        results[f"alpha {alpha}"] = transfer(tuned, proxy, target, task, TEXTS, settings).prompt.vectors
    if task.label_reading != "head":
        results["projected"] = projected(SoftPrompt(tuned.vectors[:P], proxy.ref), proxy, target).vectors
    settings = DistilSettings(steps=2, check_every=1, prompted_share=0.5, learning_rate=0.01)
    cut = distil(target, [0], [" ".join(TEXTS[at : at + 4]) for at in range(16)] * 4, settings)
    assert cut.model.device == target.device
    results["distilled"] = torch.cat(
        [each.detach().float().cpu().flatten() for each in cut.model.model.parameters()]
    )
    if task.kind == "text":
        assert len(answers(target, task, TEXTS[:3], None)) == 3
    else:
        assert 0 <= accuracy(proxy, task, TEXTS, LABELS, tuned).micro <= 1
    return results


@pytest.mark.slow
@pytest.mark.parametrize("dtype", SHARES)
@pytest.mark.parametrize("reading", READINGS)
def test_a_prompt_is_that_of_the_cpu_wherever_the_models_are(
    tiny_causal: Path, tiny_task: Task, reading: str, dtype: torch.dtype
) -> None:
    task = read_by(reading, tiny_task)
    here = flows(*(moved(load(tiny_causal), "cpu", dtype) for _ in range(2)), task)
    with card():
        there = flows(*(moved(load(tiny_causal), CARD, dtype) for _ in range(2)), task)
    assert here.keys() == there.keys()
    for name, wanted in here.items():
        assert there[name].device.type == "cpu", name
        assert there[name].dtype == torch.float32, name
        assert (there[name] - wanted).norm() <= SHARES[dtype] * wanted.norm(), name


def test_devices_are_not_mixed_in_silence() -> None:
    with card(), pytest.raises(RuntimeError, match="all tensors must be on one device"):
        torch.ones(3, device=CARD) + torch.ones(3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("reading", READINGS)
def test_every_flow_runs_on_a_gpu(tiny_causal: Path, tiny_task: Task, reading: str, dtype: str) -> None:
    placement = Placement(device="cuda", dtype=dtype)
    assert flows(*(load(tiny_causal, placement=placement) for _ in range(2)), read_by(reading, tiny_task))
