"""What a step releases is (integer sum + integer noise) × grid, bit for bit: rounding never meets a single record.

References are Python's integers and fractions. Floating point in the sum or the noise would pass every test of
scale, and let the last bits tell what was added (Mironov 2012).
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import client.private.dpsgd
from client.private.dpsgd import OPTIMIZERS, NoisyOptimizer, tune
from client.private.noise import GRID_BITS, NoiseSource, clip_to_grid
from client.private.records import PrivateRecords
from tests.promises import Measured
from transfer.models.loading import load
from transfer.privacy import Spend, Unit
from transfer.protocol.rounds import Tuning
from transfer.subspace import Subspace
from transfer.tasks import Task

LINES = (
    "The film was great.",
    "A terrible plot, a bad ending and a boring evening.",
    "good",
    "We liked the food",
)
RECORDS = PrivateRecords(LINES * 25, (0, 1, 0, 1) * 25, users=tuple("abbccccdef" * 10))
P = 4


class Recorded:
    """The real noise, kept, and coins that leave no step empty."""

    def __init__(self) -> None:
        self.noise: list[NDArray[np.int64]] = []
        self._coins = np.random.default_rng(0)

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        self.noise.append(NoiseSource().integers(shape))
        return self.noise[-1].copy()

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        return self._coins.random(n) < rate


@dataclass(frozen=True)
class Step:
    """A step on gradients that are ready, and how they are noised."""

    shape: tuple[int, ...]
    sigma: float
    clip: float
    dtype: torch.dtype
    parts: tuple[int, ...] = (3, 0, 2)
    seed: int = 0

    @property
    def grid(self) -> float:
        return self.sigma * self.clip / 2**GRID_BITS

    def gradients(self) -> torch.Tensor:
        """Short ones, one too long along an axis and one that is no number: in none of them is a square root."""
        draw = torch.randn(sum(self.parts), *self.shape, generator=torch.Generator().manual_seed(self.seed))
        rows = draw.flatten(1)
        rows *= 0.9 * self.clip / rows.norm(dim=1, keepdim=True)
        rows[1:2] = torch.eye(rows.shape[1])[-1] * -2.5 * self.clip
        rows[2:3, 0] = math.nan
        return rows.reshape(draw.shape).to(self.dtype)

    def steps(self, gradients: torch.Tensor) -> list[int]:
        """The oracle: whole grid steps of the clipped sum."""
        total = [0] * math.prod(self.shape)
        for row in gradients.double().flatten(1).tolist():
            if all(map(math.isfinite, row)):
                longest = math.floor(Fraction(self.clip) / Fraction(self.grid))
                steps = [math.trunc(x / self.grid) for x in row]
                total = [a + max(-longest, min(b, longest)) for a, b in zip(total, steps, strict=True)]
        return total


def exactly(steps: list[int], noise: NDArray[np.int64], grid: float, dtype: torch.dtype) -> torch.Tensor:
    """The oracle: (sum + noise) × grid, rounded to double once and then to `dtype`."""
    noised = [Fraction(a + int(b)) * Fraction(grid) for a, b in zip(steps, noise.flatten(), strict=True)]
    return torch.tensor([float(each) for each in noised], dtype=torch.float64).reshape(noise.shape).to(dtype)


def assert_exact(step: Step) -> int:
    """The number of coordinates that were compared."""
    parameter, randomness = nn.Parameter(torch.zeros(step.shape, dtype=step.dtype)), Recorded()
    asked = Tuning(Spend(step.sigma, 1.0, 1), step.clip, learning_rate=0.1, optimizer="sgd")
    optimizer = NoisyOptimizer(parameter, asked, 1.0, randomness)
    released: list[torch.Tensor] = []
    optimizer.attach_step_hook(lambda _: released.append(parameter.grad.clone()))  # type: ignore[union-attr]
    gradients = step.gradients()
    for place, part in enumerate(gradients.split(step.parts)):
        parameter.grad_sample = part  # type: ignore[attr-defined]
        optimizer.signal_skip_step(do_skip=place < len(step.parts) - 1)
        optimizer.step()
        optimizer.zero_grad()
    (noise,) = randomness.noise
    (grad,) = released
    assert grad.dtype == step.dtype
    assert torch.equal(grad, exactly(step.steps(gradients), noise, step.grid, step.dtype))
    return grad.numel()


@pytest.mark.promise("noise")
@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from([(1,), (64,), (4, 32), (2, 3, 5)]),
    sigma=st.sampled_from([0.002, 0.3, 1.0, 1.7, 4.0, 1000.0]),
    clip=st.sampled_from([1.0, 0.1, 3.7, 1e-4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    parts=st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_released_sum_is_whole_grid_steps_bit_for_bit(
    measured: Measured, shape: tuple[int, ...], sigma: float, clip: float, dtype: Any, parts: Any, seed: int
) -> None:
    compared = assert_exact(Step(shape, sigma, clip, dtype, parts, seed))
    measured(coordinates_compared_bit_for_bit=compared)


class Watched(NoisyOptimizer):
    """The shipped optimiser, and what went into and out of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.steps, self.released = [[0] * self.params[0].numel()], []
        self.attach_step_hook(self._seen)
        made.append(self)

    def clip_and_accumulate(self) -> None:
        for row in self.params[0].grad_sample:  # by unit, alone
            share = clip_to_grid(row[None], self.max_grad_norm, self._grid).flatten().tolist()
            self.steps[-1] = [a + b for a, b in zip(self.steps[-1], share, strict=True)]
        super().clip_and_accumulate()

    def _seen(self, _: object) -> None:
        self.released.append(self.params[0].grad.clone())
        self.steps.append([0] * self.params[0].numel())


made: list[Watched] = []


def directions() -> Subspace:
    draw = torch.randn(P * 32, 5, generator=torch.Generator().manual_seed(2))
    return Subspace(torch.linalg.qr(draw).Q.T.reshape(5, P, 32).contiguous())


@pytest.mark.promise("noise", "users")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("axes", [None, directions()], ids=["whole", "subspace"])
@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_tuned_prompt_is_made_of_exact_sums_and_of_nothing_else(
    tiny_causal: Path, tiny_task: Task, unit: Unit, axes: Subspace | None, optimizer: Any,
    monkeypatch: pytest.MonkeyPatch, measured: Measured,
) -> None:  # fmt: skip
    """Whoever knows the start, the integer sums and the noise computes the prompt, to the last bit."""
    model, randomness = load(tiny_causal), Recorded()
    start = model.text_prompt(tiny_task.init_text, P)
    asked = Tuning(Spend(0.7, 0.5, 3, unit), 0.03, learning_rate=0.01, optimizer=optimizer)
    monkeypatch.setattr(client.private.dpsgd, "NoisyOptimizer", Watched)
    made.clear()
    prompt = tune(
        model, RECORDS, tiny_task, start, asked, declared_units=8, randomness=randomness, subspace=axes
    )  # fmt: skip
    (seen,) = made
    parameter = nn.Parameter(start.vectors.clone() if axes is None else torch.zeros(axes.dimensions))
    stepper = OPTIMIZERS[optimizer]([parameter], lr=asked.learning_rate)
    assert len(randomness.noise) == len(seen.released) == 3
    for number, (noise, grad) in enumerate(zip(randomness.noise, seen.released, strict=True)):
        expected = exactly(seen.steps[number], noise, 0.7 * 0.03 / 2**GRID_BITS, torch.float32)
        assert any(seen.steps[number])
        assert torch.equal(grad, expected / 4)  # q·N, a power of two
        stepper.param_groups[0]["lr"] = asked.learning_rate * (1 - number / 3)
        parameter.grad = expected / 4
        stepper.step()
        measured(coordinates_compared_bit_for_bit=noise.size)
    update = parameter.detach()
    assert torch.equal(prompt.vectors, update if axes is None else start.vectors + axes.vectors(update))
