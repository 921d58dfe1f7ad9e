"""The result of an audit, as numbers about a mechanism or a whole data set, never about one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Number = float | int | str
Curve = Sequence[float]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one audit.

    Attributes:
        audit: name of the audit.
        claimed: claimed ε at `delta`.
        bound: lower bound on ε at `delta`, at the confidence in `settings`.
        sound: whether every other check passed.
        verdict: one sentence for the data owner.
        measured: further results by name.
        settings: settings of the audit by name.
        curves: aggregates that can be drawn, by name.
        seconds: duration of the audit.
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
        """Whether nothing contradicts the claim."""
        return self.sound and self.bound <= self.claimed
