"""The [tuning] table of a plan: what a campaign asks of a client, as both sides read it.

It knows no tensors: a data owner is shown the cost of a plan without loading PyTorch.
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
"""What a client makes of a noised gradient: steps of Adam, or of plain SGD."""
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TuningTable(Settings):
    """Keys of the table; `deploy/plan.toml` explains them.

    Raises:
        UsageError: SGD without a step size.
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
        """How many directions are tuned in for a task, 0 for all."""
        if self.dimensions is not None:
            return self.dimensions
        noisy = self.noise_multiplier != 0 and self.epsilon != math.inf
        if not noisy or task.kind == "text":
            return 0
        return HEAD_DIMENSIONS if task.head_rows else DIMENSIONS

    def spend(self, rounds: int) -> Spend:
        """One round's privacy cost, with the noise all rounds together need.

        Raises:
            UsageError: neither ε nor a noise multiplier is given, or both.
        """
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise UsageError("[tuning] needs epsilon (inf for no privacy) or noise_multiplier, not both")
        noise = self.noise_multiplier
        if self.epsilon is not None:
            noise = calibrate(self.epsilon, self.delta, self.sample_rate, self.steps * rounds)
        return Spend(noise or 0.0, self.sample_rate, self.steps, self.unit)

    def step_size(self, dimensions: int) -> float:
        """The step size asked for, or the usual one in so many directions, 0 for all."""
        return self.learning_rate or usual_learning_rate(dimensions)
