"""A round's spend in the privacy ledger."""

from dataclasses import dataclass, field

from transfer.privacy import Spend


@dataclass(frozen=True, slots=True)
class Reservation:
    """A round's spend, durably written down.

    Train only if `fresh`. If not, send `reply` again; without one the spend is lost and the round is over.
    """

    round_name: str
    data_set: str
    spend: Spend
    fresh: bool
    reply: bytes | None = field(default=None, repr=False)
