"""How to distil. Nothing here needs PyTorch, so that a command can tell about its options without it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transfer.errors import UsageError

LEAST_TOKENS = 8
"""Shorter sequences teach too little to be worth a row."""

PARTS = ("embeddings", "head")
Precision = Literal["float32", "bf16"]
Places = Literal["masked", "all"]


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """How to distil.

    Attributes:
        steps: most optimiser steps, ≥ 0; distillation ends earlier on a plateau.
        batch_tokens: tokens a batch, padding included.
        accumulate: batches a step, ≥ 1; the step is that of one batch of them all.
        sequence_tokens: longest sequence, ≥ 8; longer texts are cut into several.
        learning_rate: peak of a schedule with 5 % warm-up and cosine decay.
        temperature: T of the KL term, > 0.
        weights: of the KL, language-model and cosine terms; the second counts for nothing without an LM head.
        freeze: copied parts that are not trained. Where input embeddings and head are one tensor, as in
            GPT-2 and BERT, naming either freezes it.
        precision: of the forward and backward passes; weights, losses and measurements stay float32.
        masked_share: share of tokens masked, for a masked model, in (0, 1).
        kl_at: tokens the KL term of a masked model is taken at: the masked ones, or all (as in POST).
        prompted_share: share of batches that target and proxy read behind the same random soft prompt.
        prompted_tokens: length of such a prompt, ≥ 1.
        check_every: steps between held-out measurements, each followed by a checkpoint.
        patience: measurements without 0.5 % improvement after which distillation ends.

    Raises:
        UsageError: names the field and its range.
    """

    steps: int = 3000
    batch_tokens: int = 2048
    accumulate: int = 1
    sequence_tokens: int = 64
    learning_rate: float = 1e-3
    temperature: float = 2.0
    weights: tuple[float, float, float] = (5.0, 2.0, 1.0)
    freeze: tuple[str, ...] = ("embeddings", "head")
    precision: Precision = "float32"
    masked_share: float = 0.15
    kl_at: Places = "masked"
    prompted_share: float = 0.0
    prompted_tokens: int = 5
    check_every: int = 200
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise UsageError(f"distillation {name} {getattr(self, name)} must be ≥ {least}")
        for name in ("learning_rate", "temperature"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"distillation {name} {getattr(self, name)} must be finite and > 0")
        if not 0 < self.masked_share < 1:
            raise UsageError(f"distillation masked_share {self.masked_share} must be in (0, 1)")
        if not 0 <= self.prompted_share <= 1:
            raise UsageError(f"distillation prompted_share {self.prompted_share} must be in [0, 1]")
        self._check_words("precision", (self.precision,), get_args(Precision))
        self._check_words("kl_at", (self.kl_at,), get_args(Places))
        self._check_words("freeze", self.freeze, PARTS)

    @staticmethod
    def _check_words(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
        for word in given:
            if word not in known:
                raise UsageError(f"distillation {name} {word!r} is none of {', '.join(known)}")


_LEAST = {
    "steps": 0,
    "batch_tokens": 1,
    "accumulate": 1,
    "sequence_tokens": LEAST_TOKENS,
    "prompted_tokens": 1,
    "check_every": 1,
    "patience": 1,
}


def checkpoints_of(place: Path) -> Path:
    """Where the checkpoints of a proxy lie until it appears at `place`."""
    return place.with_name(f".{place.name}.unfinished")
