"""The settings of shadow prompts; their defaults are a plan's (`deploy/plan.toml`), so that they represent rounds."""

from dataclasses import dataclass

from transfer.errors import UsageError
from transfer.protocol.tuning_defaults import (
    CLIP_NORM,
    DIMENSIONS,
    PROMPT_LENGTH,
    SAMPLE_RATE,
    STEPS,
    usual_learning_rate,
)


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Settings of a membership audit.

    Attributes:
        shadows: K, number of shadow prompts.
        records: N, most records or users in the sample; each shadow is tuned on about half of them.
        length: prompt tokens, ≥ 1.
        steps: noisy steps of a shadow.
        sample_rate: probability that a record takes part in a step.
        clip_norm: largest norm of one record's gradient.
        learning_rate: step size at the first step; None for the usual one.
        dimensions: directions to tune in if public text is given to find them, ≥ 1.
    """

    shadows: int = 16
    records: int = 512
    length: int = PROMPT_LENGTH
    steps: int = STEPS
    sample_rate: float = SAMPLE_RATE
    clip_norm: float = CLIP_NORM
    learning_rate: float | None = None
    dimensions: int = DIMENSIONS

    def __post_init__(self) -> None:
        least = {"shadows": 4, "records": 20, "length": 1, "steps": 1, "dimensions": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"membership audit: {name} {getattr(self, name)} must be ≥ {value}")

    def step_size(self, *, subspace: bool) -> float:
        """Return the configured step size, or the usual one."""
        return self.learning_rate or usual_learning_rate(self.dimensions if subspace else 0)
