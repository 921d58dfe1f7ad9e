"""The [tuning] table of a plan: the work a campaign requests from a client, as both sides read it.

This module does not import PyTorch, so that a data owner sees the cost of a plan quickly.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from transfer.errors import UsageError
from transfer.files.toml import Settings
from transfer.privacy import Spend, Unit, calibrate
from transfer.protocol.tuning_defaults import (
    CLIP_NORM,
    DELTA,
    DIMENSIONS,
    HEAD_DIMENSIONS,
    SAMPLE_RATE,
    STEPS,
    usual_learning_rate,
)
from transfer.tasks import Task

Optimizer = Literal["adam", "sgd"]
"""How a client uses a noised gradient: steps of Adam, or of plain SGD."""
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TuningTable(Settings):
    """Keys of the table; `deploy/plan.toml` explains them.

    Raises:
        UsageError: `optimizer` is "sgd" and `learning_rate` is missing.
    """

    epsilon: Positive | None = None
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = DELTA
    unit: Unit = "record"
    steps: Count = STEPS
    sample_rate: Annotated[float, Field(gt=0, le=1)] = SAMPLE_RATE
    clip_norm: Positive = CLIP_NORM
    optimizer: Optimizer = "adam"
    learning_rate: Positive | None = None
    dimensions: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _can_step(self) -> Self:
        if self.optimizer == "sgd" and self.learning_rate is None:
            raise UsageError('[tuning] optimizer "sgd" needs a learning_rate: the usual ones are Adam\'s')
        return self

    def directions(self, task: Task) -> int:
        """Return the dimensions of the subspace to tune in for `task`; 0 tunes the whole prompt."""
        if self.dimensions is not None:
            return self.dimensions
        noisy = self.noise_multiplier != 0 and self.epsilon != math.inf
        if not noisy or task.kind == "text":
            return 0
        return HEAD_DIMENSIONS if task.head_rows else DIMENSIONS

    def spend(self, rounds: int) -> Spend:
        """Return one round's privacy cost, with the noise that all `rounds` together need.

        Guarantee:
            With `epsilon`, the spends of all `rounds` compose to at most `epsilon` at `delta`, see
            `transfer.privacy.calibrate`.

        Edge cases:
            `epsilon` = ∞ or `noise_multiplier` = 0 give a spend without noise, which has no privacy.

        Raises:
            UsageError: neither `epsilon` nor `noise_multiplier` is given, or both; or no noise reaches `epsilon`.
        """
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise UsageError("[tuning] needs epsilon (inf for no privacy) or noise_multiplier, not both")
        noise = self.noise_multiplier
        if self.epsilon is not None:
            noise = calibrate(self.epsilon, self.delta, self.sample_rate, self.steps * rounds)
        return Spend(noise or 0.0, self.sample_rate, self.steps, self.unit)

    def step_size(self, dimensions: int) -> float:
        """Return `learning_rate`, or else the default for a subspace of `dimensions`, 0 for none."""
        return self.learning_rate or usual_learning_rate(dimensions)
