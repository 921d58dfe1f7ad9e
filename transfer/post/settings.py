"""Settings of a transfer. This module does not import PyTorch, so that a command can read a plan without it."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from transfer.errors import UsageError

Space = Literal["labels", "vocabulary"]
Start = Literal["prompt", "text", "projected", "public"]
Imitated = Literal["change", "sum"]
Agreement = Literal["agreement"]
AGREEMENT: Agreement = "agreement"


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Settings of a transfer.

    Attributes:
        alpha: α in [0, 1], the weight of imitating a prompt's change of answers; 1 − α is the weight of imitating the
            answers. "agreement" sets α to how much the bare target answers public text like the prompted proxy
            (`transfer.post.alpha`).
        imitate: how the change is imitated: "change" compares the change of the target's answers with the proxy's
            (POST's L2), "sum" the target's answers with its bare ones plus the proxy's change (logit arithmetic).
        temperature: T > 0 of both KL terms.
        space: compare class logits, or logits over the whole vocabulary, which must be the same for both models.
        steps: number of optimiser steps, ≥ 0; the best held-out step is returned.
        restarts: most times, ≥ 0, that as many steps follow from the result, until the held-out loss is flat.
        length: prompt tokens of the target; 0 for as many as the proxy has.
        batch_size: public texts per step, ≥ 1.
        learning_rate: peak of a cosine schedule, > 0.
        start: "prompt" is the proxy's prompt where widths are equal, else the task's text. "text" is the task's text.
            "projected" is the proxy's prompt projected into the target's embeddings. "public" is a prompt taught on
            the public texts to answer as the bare target does, its prior removed (`transfer.post.starts`).
        held_out: share in (0, 1) of the public texts that only choose the step.
        check_every: steps between held-out measurements, ≥ 1.
        seed: seed of the split, of the batches and of the formats.
        formats: F ≥ 1, formats of the question in which the target reads each text that trains, see
            `transfer.wording.formats`; what it imitates is the same in all of them.

    Raises:
        UsageError: names the field and its range.
    """

    alpha: float | Agreement = 0.5
    imitate: Imitated = "change"
    temperature: float = 2.0
    space: Space = "labels"
    steps: int = 1000
    restarts: int = 0
    length: int = 0
    batch_size: int = 8
    learning_rate: float = 0.03
    start: Start = "prompt"
    held_out: float = 0.2
    check_every: int = 50
    seed: int = 0
    formats: int = 1

    def __post_init__(self) -> None:
        if self.alpha != AGREEMENT and not (isinstance(self.alpha, float | int) and 0 <= self.alpha <= 1):
            raise UsageError(f'transfer alpha {self.alpha!r} must be in [0, 1], or "{AGREEMENT}"')
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"transfer temperature {self.temperature} must be finite and > 0")
        if not 0 < self.held_out < 1:
            raise UsageError(f"transfer held_out {self.held_out} must be in (0, 1)")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"transfer learning_rate {self.learning_rate} must be finite and > 0")
        for name, least in (
            ("steps", 0),
            ("restarts", 0),
            ("length", 0),
            ("batch_size", 1),
            ("check_every", 1),
            ("formats", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"transfer {name} {getattr(self, name)} must be ≥ {least}")
        self._check_choices()

    @property
    def most_steps(self) -> int:
        """Most optimiser steps of a descent, restarts included."""
        return self.steps * (1 + self.restarts)

    def _check_choices(self) -> None:
        for name, kind in (("imitate", Imitated), ("space", Space), ("start", Start)):
            known = get_args(kind)
            if getattr(self, name) not in known:
                raise UsageError(f"transfer {name} {getattr(self, name)!r} must be one of {', '.join(known)}")
