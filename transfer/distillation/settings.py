"""Settings of a distillation. This module does not import PyTorch, so that a command's help is quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transfer.errors import UsageError

LEAST_TOKENS = 8
"""Fewest tokens of a sequence; shorter ones teach too little to be worth a row."""

PARTS = ("embeddings", "head")
Precision = Literal["float32", "bf16"]
Places = Literal["masked", "all"]


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """Settings of a distillation.

    Attributes:
        steps: largest number of optimiser steps, ≥ 0; distillation ends earlier on a plateau.
        batch_tokens: tokens per batch, padding included.
        accumulate: batches per step, ≥ 1; the step equals that of one batch with all of them.
        sequence_tokens: longest sequence, ≥ 8; longer texts are cut into several.
        learning_rate: peak of a schedule with 5 % warm-up and cosine decay.
        temperature: T of the KL term, > 0.
        weights: weights of the KL, language-model and cosine terms; without an LM head the second term is absent.
        freeze: copied parts that are not trained. If input embeddings and head are one tensor, as in GPT-2 and BERT,
            naming either freezes it.
        precision: precision of forward and backward passes; weights, losses and measurements stay float32.
        masked_share: share of tokens masked, for a masked model, in (0, 1).
        kl_at: tokens that count in the KL term of a masked model: the masked ones, or all (as in POST).
        prompted_share: share of batches that target and proxy read behind the same random soft prompt.
        prompted_tokens: length of such a prompt, ≥ 1.
        check_every: steps between held-out measurements; a checkpoint follows each.
        patience: number of measurements without 0.5 % improvement that ends distillation.
        seed: seed of all random choices.

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
    def _check_words(name: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
        for word in words:
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
    """Return the directory of a proxy's checkpoints, which exists until the proxy appears at `place`."""
    return place.with_name(f".{place.name}.unfinished")
