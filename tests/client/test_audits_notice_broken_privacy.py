"""Fifteen ways to get privacy wrong, each put into the shipped code and each noticed by an audit or a test.

A fault is one small patch of one shipped function, and a check that holds without it and must not hold with it.
Checks are the audits themselves and the very tests of `test_tuning`, `test_noise` and
`test_exactness`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import client.private.dpsgd
import transfer.models.passes
import transfer.models.per_record_gradients
from client.audit import mechanism as mechanism_audit
from client.ledger import ledger
from client.ledger.file import LedgerFile
from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.private import noise
from client.private.dpsgd import NoisyOptimizer
from client.private.noise import NoiseSource
from tests.client.audit import test_mechanism, test_one_run
from tests.client.private import test_dpsgd as test_tuning
from tests.client.private import test_exact_sums as test_exactness
from tests.client.private import test_noise
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.objectives import cross_entropy
from transfer.models.per_record_gradients import LabelledLines
from transfer.tasks import Task
from transfer.tokens.batches import NO_MORE, UNCOUNTED, Batch, Line

pytestmark = pytest.mark.slow


@dataclass
class World:
    """What checks look at: a small model, a task, and its lines behind a prompt."""

    model: LanguageModel
    task: Task

    @property
    def data(self) -> LabelledLines:
        encoder = self.model.encoder(self.task)
        lines = encoder.encode(test_tuning.TEXTS)
        return LabelledLines(lines, torch.tensor(test_tuning.LABELS), encoder.words)

    @property
    def vectors(self) -> nn.Parameter:
        start = self.model.text_prompt("A sentence about a review", test_tuning.P)
        return nn.Parameter(start.vectors.clone())


@pytest.fixture(scope="module")
def world(tiny_causal: Path, tiny_task: Task) -> World:
    return World(load(tiny_causal), tiny_task)


# ---- checks: return if all is well, raise AssertionError if not


def mechanism(_world: World) -> None:
    assert test_mechanism.small_mechanism().passed


def mechanism_closely(_world: World) -> None:
    assert mechanism_audit.audit().passed


def one_run(_world: World) -> None:
    assert test_one_run.small_one_run().passed


def every_step_is_noised(world: World) -> None:
    test_tuning.test_tuning_takes_exactly_the_steps_that_were_paid_for(world.model, world.task)


def an_empty_step_learns_nothing(world: World) -> None:
    test_tuning.test_steps_without_records_learn_nothing_from_any(world.model, world.task)


def the_denominator_is_declared(world: World) -> None:
    test_tuning.test_the_denominator_is_declared_not_counted(world.model, world.data, world.vectors)


def noise_has_its_own_source(_world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_noise.test_noise_never_asks_a_global_generator(patch)


def answers_are_each_records_own(world: World) -> None:
    free = replace(world.task, labels=(), kind="text", answer_tokens=6)
    test_tuning.test_whatever_is_read_a_records_gradient_is_its_own(world.model, free, world.vectors)


def records_are_as_if_alone(world: World) -> None:
    test_tuning.test_per_record_gradients_equal_one_backward_pass_a_record(
        world.model, world.data, world.vectors, measured=lambda **_: None
    )


def sums_are_exact(_world: World) -> None:
    for dtype in (torch.float32, torch.float64):
        test_exactness.assert_exact(test_exactness.Step((4, 32), 1.7, 0.1, dtype))


# ---- faults: what stands in for a shipped function, given the original


def no_clip(_clip: Callable) -> Callable:
    return lambda rows, _norm, grid: (rows.double() / grid).trunc().long().sum(0)


def clip_three_times_as_far(clip: Callable) -> Callable:
    return lambda rows, norm, grid: clip(rows, 3 * norm, grid)


def clip_the_batch(clip: Callable) -> Callable:
    return lambda rows, norm, grid: clip(rows.sum(0, keepdim=True), norm, grid)


def no_noise(_draw: Callable) -> Callable:
    return lambda _self, shape: np.zeros(shape, dtype=np.int64)


def less_noise(draw: Callable) -> Callable:
    return lambda self, shape: (draw(self, shape) * 0.8).round().astype(np.int64)


def seeded_noise(_draw: Callable) -> Callable:
    scale = 2**noise.GRID_BITS
    return lambda _self, shape: (torch.randn(shape, dtype=torch.float64) * scale).round().long().numpy()


def noise_shared_over_the_batch(add: Callable) -> Callable:
    def shared(self: NoisyOptimizer) -> None:
        (parameter,) = self.params
        exact = parameter.summed_grad.double() * self._grid
        add(self)
        parameter.grad = (exact + (parameter.grad - exact) / len(parameter.grad_sample) ** 0.5).float()

    return shared


def noise_drawn_once(_add: Callable) -> Callable:
    def same(self: NoisyOptimizer) -> None:
        (parameter,) = self.params
        if not hasattr(self, "kept"):
            self.kept = torch.from_numpy(self._randomness.integers(tuple(parameter.shape)))
        parameter.grad = ((parameter.summed_grad + self.kept).double() * self._grid).float()

    return same


def noise_added_in_single_precision(_add: Callable) -> Callable:
    def rounded(self: NoisyOptimizer) -> None:
        (parameter,) = self.params
        noise = torch.from_numpy(self._randomness.integers(tuple(parameter.shape))).float() * self._grid
        parameter.grad = (parameter.summed_grad.float() * self._grid + noise).to(parameter.dtype)

    return rounded


def divided_by_the_actual_batch(add: Callable) -> Callable:
    def divided(self: NoisyOptimizer) -> None:
        self.expected_batch_size = len(self.params[0].grad_sample)
        add(self)

    return divided


def empty_steps_left_out(step: Callable) -> Callable:
    def skipping(model: object, data: object, included: list[int], *rest: object) -> None:
        if included:
            step(model, data, included, *rest)

    return skipping


def a_record_for_an_empty_step(step: Callable) -> Callable:
    return lambda model, data, included, *rest: step(model, data, included or [0], *rest)


def a_mean_over_the_batchs_tokens(_loss: Callable) -> Callable:
    def mean(logits: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        each = cross_entropy(logits, goal[goal != NO_MORE], reduction="none", ignore_index=UNCOUNTED)
        return (each.sum() / (goal >= 0).sum() / len(goal)).expand(len(goal))  # their sum is the batch's mean

    return mean


def padding_on_the_left(collate: Callable) -> Callable:
    def left(lines: list[Line], pad_id: int, tokens: int = 0) -> Batch:
        right = collate(lines, pad_id, tokens)
        room = right.mask.shape[1] - right.mask.sum(dim=1)
        rows = zip(right.ids, room.tolist(), strict=True)
        ids = torch.stack([row.roll(shift) for row, shift in rows])
        return Batch(ids, right.mask.flip(1), right.answer + room, right.goal)

    return left


def a_ledger_made_anew_when_opened(_open: Callable) -> Callable:
    def anew(place: LedgerPlace) -> Ledger:
        for old in place.path.parent.glob(f"{place.path.name}*"):
            old.unlink()
        LedgerFile.create(place)
        return Ledger(LedgerFile.open(place))

    return anew


@dataclass(frozen=True)
class Fault:
    """`fault(original)` in place of `place.name`, and the check that notices."""

    fault: Callable[[Any], Any]
    place: Any
    name: str
    check: Callable[[World], None]

    def put(self, patch: pytest.MonkeyPatch) -> list[int]:
        """Patch it in; the list grows by one with every call of what stands in."""
        stand_in, calls = self.fault(getattr(self.place, self.name)), []

        def counted(*arguments: Any, **named: Any) -> Any:
            calls.append(1)
            return stand_in(*arguments, **named)

        patch.setattr(self.place, self.name, counted)
        return calls


FAULTS = [
    Fault(no_clip, client.private.dpsgd, "clip_to_grid", mechanism),
    Fault(clip_three_times_as_far, client.private.dpsgd, "clip_to_grid", mechanism),
    Fault(clip_the_batch, client.private.dpsgd, "clip_to_grid", mechanism),
    Fault(no_noise, NoiseSource, "integers", mechanism),
    Fault(less_noise, NoiseSource, "integers", mechanism_closely),
    Fault(noise_shared_over_the_batch, NoisyOptimizer, "add_noise", mechanism),
    Fault(noise_drawn_once, NoisyOptimizer, "add_noise", mechanism),
    Fault(noise_added_in_single_precision, NoisyOptimizer, "add_noise", sums_are_exact),
    Fault(seeded_noise, NoiseSource, "integers", noise_has_its_own_source),
    Fault(empty_steps_left_out, client.private.dpsgd, "noisy_step", every_step_is_noised),
    Fault(a_record_for_an_empty_step, client.private.dpsgd, "noisy_step", an_empty_step_learns_nothing),
    Fault(divided_by_the_actual_batch, NoisyOptimizer, "add_noise", the_denominator_is_declared),
    Fault(a_ledger_made_anew_when_opened, ledger.Ledger, "open", one_run),
    Fault(
        a_mean_over_the_batchs_tokens,
        transfer.models.per_record_gradients,
        "answer_loss",
        answers_are_each_records_own,
    ),
    Fault(padding_on_the_left, transfer.models.passes, "collate", records_are_as_if_alone),
]


def test_there_are_fifteen() -> None:
    assert len({each.fault for each in FAULTS}) == 15


# dict.fromkeys, not a set: pytest-xdist needs the same order in every worker.
@pytest.mark.parametrize(
    "check", dict.fromkeys(each.check for each in FAULTS), ids=lambda check: check.__name__
)
def test_without_a_fault_the_check_holds(check: Callable[[World], None], world: World) -> None:
    check(world)


@pytest.mark.promise("mechanism-audit")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("each", FAULTS, ids=lambda each: each.fault.__name__)
def test_a_fault_is_noticed(each: Fault, world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = each.put(patch)
        with pytest.raises(AssertionError):
            each.check(world)
    assert calls, "the fault was never reached"
