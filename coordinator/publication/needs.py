"""What a purpose needs, part by part, and the work it is told for.

Letters: N public texts, C classes, D directions, P prompt tokens, T tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from transfer.post.settings import TransferSettings
from transfer.protocol.tuning_defaults import DIMENSIONS, PROMPT_LENGTH

Purpose = Literal["distillation", "transfer", "client's round", "to each client"]


@dataclass(frozen=True, slots=True)
class Need:
    """One part of what a purpose needs; `size` is in bytes, None if it cannot be told without weights.

    `counted` is False for an alternative and for what is on disk: neither is in the sum of its purpose.
    """

    purpose: Purpose
    part: str
    size: int | None
    detail: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of the models: by default what a plan asks that chooses nothing.

    Attributes:
        texts: N, number of public texts.
        tokens: T, longest line, the task's `max_tokens`.
        prompt: P.
        classes: C, or 0 for free text.
        answers: positions read of a text: 1, or the task's `answer_tokens`.
        dimensions: D, directions that clients tune in; 0 for all.
        transfer: settings of the transfer.
    """

    texts: int = 2000
    tokens: int = 128
    prompt: int = PROMPT_LENGTH
    classes: int = 2
    answers: int = 1
    dimensions: int = DIMENSIONS
    transfer: TransferSettings = TransferSettings()  # noqa: RUF009 -- frozen


def totals(needs: Iterable[Need]) -> dict[Purpose, int | None]:
    """Return the sum of what counts of each purpose; None if a part of it is not told."""
    sums: dict[Purpose, int | None] = {}
    for need in needs:
        if need.counted:
            before = sums.get(need.purpose, 0)
            sums[need.purpose] = None if before is None or need.size is None else before + need.size
    return sums
