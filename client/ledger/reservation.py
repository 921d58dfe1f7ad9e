"""A round's spend in the privacy ledger, and when it may be used again.

A reservation is good for one release. Tuning ends without one in two ways, and they differ:

- **The owner stopped it.** When, has nothing to do with what tuning came to. A reply is kept before it is sent, so
  nothing has left, and a release to come, of fresh noise, is the one that was paid for. The same request is then
  answered under the same reservation.
- **It broke**, was killed, or the power failed. That may hang on the records drawn or on the noise: for want of
  memory, or by a number that is not finite. To try until it goes well is another mechanism: what it releases is drawn
  given that tuning did not break, which may cost twice as much, and each try that broke can be seen from outside.
  Such a round stays spent.

So a stop is an entry of the ledger, durable before anybody hears of it, and so is each start after one: what is
killed in its second try is over like what is killed in its first, and so is the round in a copy of the ledger made
while it was tuned. Only a ledger *and* head taken back together to just after a stop would release twice; taken back
to before the spend they would in any case, which is what a head on another disk is for. Where newer entries were
declared lost every stopped round is over: what is lost may be its answer.
"""

from dataclasses import dataclass, field

from transfer.privacy import Spend


class Stopped(Exception):  # noqa: N818 -- no error: the owner ends the daemon in mid-round
    """Raised between two steps of tuning, whatever they came to."""


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
