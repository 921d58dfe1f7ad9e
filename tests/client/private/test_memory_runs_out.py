"""Where a pass of private records does not fit into memory, it is run again in halves, and nothing else changes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from client.private.dpsgd import tune
from client.private.records import PrivateRecords
from tests.benchmarks.quality_federation import Seeded
from tests.promises import Measured
from tests.small_memory import rounding_by_rows, small_memory
from transfer.errors import ModelError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.privacy import Spend, Unit
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task

P = 4
TEXT = "the film was great and we liked the music the food and the long walk home"
WORDS = TEXT.split()
TEXTS = tuple(" ".join(WORDS[: 1 + index % len(WORDS)]) for index in range(40))
USERS = tuple(f"user {index % 7}" for index in range(40))


@pytest.fixture
def model(tiny_causal: Path) -> Iterator[LanguageModel]:
    loaded = load(tiny_causal)
    with rounding_by_rows(loaded):
        yield loaded


def tuned(model: LanguageModel, task: Task, unit: Unit) -> torch.Tensor:
    """A prompt [P, H], by randomness that is the same as long as it is drawn equally often."""
    records = PrivateRecords(TEXTS, labels=tuple(index % 2 for index in range(40)), users=USERS)
    start = model.text_prompt(task.init_text, P)
    tuning = Tuning(Spend(1.0, 0.5, 3, unit), 1.0, 0.05)
    units = 40 if unit == "record" else 7
    return tune(model, records, task, start, tuning, declared_units=units, randomness=Seeded(3)).vectors


@pytest.mark.parametrize("unit", ["record", "user"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_prompt_is_bit_for_bit_that_of_the_smaller_passes(
    model: LanguageModel, tiny_task: Task, unit: Unit, behind: bool, monkeypatch, caplog
) -> None:
    expected, own = (20.0 if unit == "record" else 3.5), Passes.expecting
    half = own(expected, tiny_task.max_tokens, model.width).tokens // 2
    whole = tuned(model, tiny_task, unit)
    with small_memory(model, half, behind=behind) as failed:
        ours = tuned(model, tiny_task, unit)
        before = len(failed)
        assert torch.equal(tuned(model, tiny_task, unit), ours)
        assert len(failed) == before, "the smaller size stays"
    assert failed
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"model {model.ref.name!r}: memory ran out in a pass; it goes on in smaller ones"
    ]
    monkeypatch.setattr(Passes, "expecting", lambda *_given: Passes(half, tiny_task.max_tokens))
    assert torch.equal(tuned(replace(model), tiny_task, unit), ours)
    assert not torch.equal(whole, ours)


@pytest.mark.promise("neighbours")
def test_a_record_that_does_not_fit_changes_no_bit_of_the_others_gradients(
    model: LanguageModel, tiny_task: Task, measured: Measured
) -> None:
    encoder = model.encoder(tiny_task)
    lines = encoder.encode([*[text for text in TEXTS[:32] if len(text) < 30], " ".join(WORDS)])
    data = LabelledLines(
        lines, torch.arange(len(lines)) % 2, encoder.words, Passes(320, tiny_task.max_tokens)
    )
    short, start = list(range(len(lines) - 1)), model.text_prompt(tiny_task.init_text, P).vectors
    alone = per_record_gradients(model, data, short, start)

    def cost(rows: int, columns: int) -> int:
        return rows * columns**2  # attention's

    longest = data.passes.shape(lines[-1], P, 1, model.manners(P))
    others = max(
        cost(one.records, one.tokens + P)
        for one in (data.passes.shape(lines[at], P, 1, model.manners(P)) for at in short)
    )
    assert others < cost(longest.records, longest.tokens + P)
    with small_memory(model, others, cost) as failed:
        for _step in range(2):  # the longest pass comes last in a step, and what it leaves shows in the next
            among = per_record_gradients(model, data, [len(short), *short], start)
    assert {size[1] for size in failed} == {longest.tokens + P}
    measured(largest_difference=(among[1:] - alone).abs().max().item())
    assert torch.equal(among[1:], alone)


def test_a_record_that_does_not_fit_alone_is_an_error_that_says_what_to_lower(
    model: LanguageModel, tiny_task: Task
) -> None:
    with (
        small_memory(model, 3),
        pytest.raises(ModelError, match=r"not even one record a pass fits into memory; lower .*max_tokens"),
    ):
        tuned(model, tiny_task, "record")
