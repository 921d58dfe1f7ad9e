"""Entries of the privacy ledger as values, and what a sequence of them implies."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self, cast

from client.ledger.chain import Body, Row
from transfer.errors import LedgerError, UsageError
from transfer.privacy import Spend, Unit, unit_of

MOST_DECLINES = 10_000
"""Most declines in a ledger: decades of honest rounds, some 10 MB on disk, read in well under a second.

The coordinator decides how many requests it sends and part of what a decline says. Both are bounded, so that no
coordinator can fill the owner's disk or slow down the ledger.
"""
LONGEST_WHY = 500
"""Most characters of a reason: enough for several policy rules at once."""


class Kind(StrEnum):
    """The kind of an entry."""

    RECORDS = "records"
    """New records became part of the data set."""
    MERGE = "merge"
    """The data set `subject` became part of this one."""
    SPEND = "spend"
    """A privacy cost was reserved for the round `subject`."""
    REPLY = "reply"
    """The reply to the round `subject` was stored."""
    STOP = "stop"
    """The owner stopped the round `subject` before it had a reply."""
    AGAIN = "again"
    """The stopped round `subject` is tuned again under the spend that was reserved for it."""
    DECLINE = "decline"
    """A request for the round `subject` was declined; it concerns no data set and costs nothing."""


_COURSE = Kind.SPEND, Kind.REPLY, Kind.STOP, Kind.AGAIN
"""The kinds of entries about a round that is paid for."""


@dataclass(frozen=True, slots=True)
class Declined:
    """What was declined and why. Declines of one request for one reason are equal.

    Attributes:
        round_name: the round of the request.
        refusal: kind of refusal, the name of a `transfer.protocol.rounds.Refusal` in lower case.
        why: one line.
    """

    round_name: str
    refusal: str
    why: str

    @classmethod
    def of(cls, round_name: str, refusal: str, why: str) -> Self:
        """Cut the reason to its bound and replace unprintable characters by `�`: a server may have chosen them."""
        cut = why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…"
        return cls(round_name, refusal, "".join(sign if sign.isprintable() else "�" for sign in cut))


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Attributes:
        number: position in the chain, from 1.
        time: UTC, ISO 8601; for people only, nothing depends on it.
        digest: hash of the chain up to this entry, hex.
        subject: a round, or the data set that was merged.
        spend: the privacy cost that was reserved.
        content: SHA-256 (hex) of the fingerprints or the reply stored beside the chain, or of the
            request that the spend was reserved for.
        declined: what was declined and why.
    """

    number: int
    time: str
    kind: Kind
    data_set: str
    digest: str
    subject: str
    spend: Spend | None
    content: str
    declined: Declined | None


def entry(row: Row) -> Entry:
    """Read the entry of a row of the chain.

    Raises:
        LedgerError: the row is no entry.
    """
    body = row.body
    try:
        kind = Kind(str(body["kind"]))
        subject, spend, declined = str(body["subject"]), None, None
        if kind is Kind.SPEND:
            unit = cast(Unit, body.get("unit", "record"))  # older entries name no unit
            facts = float(body["noise_multiplier"]), float(body["sample_rate"]), int(body["steps"])
            spend = Spend(*facts, unit)
        if kind is Kind.DECLINE:
            declined = Declined(subject, str(body["refusal"]), str(body["why"]))
        return Entry(
            number=row.number,
            time=str(body["time"]),
            kind=kind,
            data_set=str(body["data_set"]),
            digest=row.digest,
            subject=subject,
            spend=spend,
            content=str(body["content"]),
            declined=declined,
        )
    except (KeyError, ValueError, TypeError, UsageError) as error:
        raise LedgerError(
            f"entry {row.number} of the ledger has an unknown form: update promptferry"
        ) from error


def body(kind: Kind, data_set: str, subject: str, *, content: str, **facts: str | int | float) -> Body:
    """Return the row body of an entry made now; `facts` are the fields of its kind alone."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind.value,
        "data_set": data_set,
        "subject": subject,
        "content": content,
        **facts,
    }


@dataclass(frozen=True, slots=True)
class History:
    """All entries so far, and what follows from them.

    Attributes:
        entries: oldest first, without declines, from which nothing follows.
        declines: oldest first, by what was declined and why.
    """

    entries: tuple[Entry, ...]
    declines: Mapping[Declined, Entry]

    def homes(self) -> dict[str, str]:
        """Map every data set id ever used, oldest first, to the id of the data set it now belongs to."""
        homes: dict[str, str] = {}
        for entry in self.entries:
            if entry.kind is Kind.RECORDS:
                homes.setdefault(entry.data_set, entry.data_set)
            elif entry.kind is Kind.MERGE:
                for name, home in homes.items():
                    homes[name] = entry.data_set if home == entry.subject else home
        return homes

    def data_sets(self) -> list[str]:
        """Return the ids of all data sets, oldest first, without those merged into another."""
        return list(dict.fromkeys(self.homes().values()))

    def owners(self, numbers: Iterable[int | None]) -> list[str]:
        """Return the data sets, oldest first, whose records were added by one of these entries."""
        wanted, homes = set(numbers), self.homes()
        owning = {homes[e.data_set] for e in self.entries if e.kind is Kind.RECORDS and e.number in wanted}
        return [name for name in self.data_sets() if name in owning]

    def spends(self, data_set: str) -> Iterator[Spend]:
        """Yield everything spent on a data set and on those merged with it."""
        homes = self.homes()
        home = homes.get(data_set)
        for entry in self.entries:
            if entry.spend is not None and homes[entry.data_set] == home:
                yield entry.spend

    def unit(self, data_set: str) -> Unit | None:
        """Return the unit of everything spent on a data set; None if nothing was spent."""
        return unit_of(self.spends(data_set))

    def stopped(self) -> dict[str, str]:
        """Map each round that was stopped and not tuned again to the request it was reserved for."""
        last = {entry.subject: entry for entry in self.entries if entry.kind in _COURSE}
        return {name: entry.content for name, entry in last.items() if entry.kind is Kind.STOP}

    def is_over(self, round_name: str, request: str) -> bool:
        """Tell whether a round is paid for and was not stopped while it answered this request."""
        paid = self.of_round(Kind.SPEND, round_name) is not None
        return paid and self.stopped().get(round_name) != request

    def of_round(self, kind: Kind, round_name: str) -> Entry | None:
        """Return the first entry of a kind about a round, such as its reservation or reply."""
        return next((e for e in self.entries if e.kind is kind and e.subject == round_name), None)
