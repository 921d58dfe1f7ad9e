"""How the prompts of the quality benchmark are tuned."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from coordinator.rounds.aggregation import DEFAULT
from coordinator.rounds.server_optimizers import optimiser
from transfer.errors import UsageError
from transfer.post.settings import TransferSettings
from transfer.protocol.tuning_defaults import (
    CLIP_NORM,
    DELTA,
    DIMENSIONS,
    PROMPT_LENGTH,
    ROUNDS,
    SAMPLE_RATE,
    STEPS,
    usual_learning_rate,
)

Directions = Literal["public", "random", "low-rank"]
NONE_FOR_ZERO = ("restarts", "dimensions", "train_rows", "public_rows", "test_rows")


def _setting(default: Any, told: str) -> Any:
    return field(default=default, metadata={"help": told})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How prompts are tuned. With privacy as a plan does by default; without, in lots of a fixed size."""

    prompt_length: int = _setting(PROMPT_LENGTH, "prompt tokens")
    rounds: int = _setting(ROUNDS, "rounds of a federation")
    strategy: str = _setting(DEFAULT, "how clients' prompts become one")
    delta: float = _setting(DELTA, "δ at which ε is meant")
    steps: int = _setting(STEPS, "noisy steps a round")
    sample_rate: float = _setting(SAMPLE_RATE, "probability of a record to take part in a noisy step")
    clip_norm: float = _setting(CLIP_NORM, "longest gradient of a record")
    learning_rate: float = _setting(usual_learning_rate(DIMENSIONS), "step size under noise")
    dimensions: int = _setting(DIMENSIONS, "directions tuned in under noise; 0 for the whole prompt")
    directions: str = _setting("public", "which: public, random or low-rank")
    initial: str = _setting(
        "text", "what tuning starts from: text, public, or a file of --cache with another prompt"
    )
    plain_steps: int = _setting(60, "steps a round without noise")
    plain_lot: int = _setting(96, "expected records of a client in a step without noise")
    plain_learning_rate: float = _setting(0.01, "step size without noise")
    restarts: int = _setting(3, "most times that the ceiling takes all its steps again, as long as they help")
    train_rows: int = _setting(0, "private records used, drawn by the seed; 0 for all")
    public_rows: int = _setting(0, "public texts used, drawn by the seed; 0 for all")
    test_rows: int = _setting(0, "test records used, the same for every cell; 0 for all")
    partition: str = _setting("iid", "how records are dealt: iid, or dirichlet:β for skewed labels")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int) and value < (0 if item.name in NONE_FOR_ZERO else 1):
                raise UsageError(f"{item.name} {value} is too small")
        if self.directions not in get_args(Directions):
            raise UsageError(
                f"directions {self.directions!r} must be one of {', '.join(get_args(Directions))}"
            )
        _ = self.skew
        optimiser(self.strategy, {})

    def ceiling(self, seed: int) -> TransferSettings:
        """How the ceiling is tuned: all steps at one go, because rounds are a federation's."""
        return TransferSettings(
            steps=self.rounds * self.plain_steps,
            restarts=self.restarts,
            batch_size=self.plain_lot,
            learning_rate=self.plain_learning_rate,
            held_out=0.1,
            seed=seed,
        )

    @property
    def skew(self) -> float | None:
        """β of a partition skewed by label, None for iid.

        Raises:
            UsageError: the partition is neither.
        """
        kind, _, beta = self.partition.partition(":")
        if self.partition == "iid":
            return None
        try:
            if kind == "dirichlet" and 0 < float(beta) < math.inf:
                return float(beta)
        except ValueError:
            pass
        raise UsageError(f"partition {self.partition!r} is neither iid nor dirichlet:β with β > 0")
