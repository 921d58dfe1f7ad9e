"""A round's spend in the privacy ledger, and when it may be used again.

A reservation allows one release. Tuning can end without a release in two ways, and they differ:

- **The owner stopped it.** The moment of the stop does not depend on what tuning computed. A reply is stored before
  it is sent, so nothing has left. A later release with fresh noise is the one that was paid for. The same request is
  therefore answered under the same reservation.
- **It failed**, was killed, or the power failed. That may depend on the sampled records or on the noise: too little
  memory, or a number that is not finite. Retrying until tuning succeeds is another mechanism. Its release is
  conditioned on success, which may cost twice as much, and each failure is visible from outside. Such a round stays
  spent.

A stop is therefore an entry of the ledger, durable before anybody learns of it, and so is each start after a stop. A
round killed in its second try is over, as one killed in its first try is. So is the round in a copy of the ledger
made during tuning. Only if ledger *and* head are set back together to just after a stop would a round be released
twice. Setting both back to before the spend has that effect in any case; a head on another disk prevents it. If newer
entries were declared lost, every stopped round is over: its reply may be among them.
"""

from dataclasses import dataclass, field

from transfer.privacy import Spend


class Stopped(Exception):  # noqa: N818 -- no error: the owner ends the daemon in mid-round
    """Raised between two steps of tuning, whatever they computed."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A round's spend, durably written down.

    Train only if `fresh`. Otherwise send `reply` again; if there is none, the spend is lost and the round is over.
    """

    round_name: str
    data_set: str
    spend: Spend
    fresh: bool
    reply: bytes | None = field(default=None, repr=False)
