"""What an audit found, as numbers about a mechanism or a whole data set and never about one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Number = float | int | str
Curve = Sequence[float]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one audit.

    Attributes:
        audit: its name.
        claimed: ε that is claimed at `delta`.
        bound: ε at `delta` that was measured at least, at the confidence in `settings`.
        sound: whether everything else that was looked at holds.
        verdict: one sentence for the data owner.
        measured: further results by name.
        settings: what it was run with, by name.
        curves: aggregates that can be drawn, by name.
        seconds: how long it took.
    """

    audit: str
    claimed: float
    delta: float
    bound: float
    verdict: str
    sound: bool = True
    measured: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Number] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if nothing contradicts the claim."""
        return self.sound and self.bound <= self.claimed
