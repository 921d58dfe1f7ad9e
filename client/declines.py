"""Requests that were declined, as the privacy ledger keeps them.

How many there are, and some of what they say, is up to whoever asks: both are bounded, so that no coordinator can
fill the owner's disk or slow the ledger with questions.
"""

from dataclasses import dataclass
from typing import Self

MOST = 10_000
"""Declines a ledger keeps: honest rounds of decades, some 10 MB on disk, and read in well under a second."""
LONGEST_WHY = 500
"""Characters of a reason: room for several rules of a policy at once."""


@dataclass(frozen=True, slots=True)
class Declined:
    """What was declined and why; the same request declined for the same reason again is the same.

    Attributes:
        round_name: the round asked for.
        refusal: kind of refusal, the name of a `transfer.rounds.Refusal` in lower case.
        why: one line.
    """

    round_name: str
    refusal: str
    why: str

    @classmethod
    def of(cls, round_name: str, refusal: str, why: str) -> Self:
        """With a reason cut to its bound, and `�` for what cannot be printed: a server may have had a hand in it."""
        cut = why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…"
        return cls(round_name, refusal, "".join(sign if sign.isprintable() else "�" for sign in cut))
