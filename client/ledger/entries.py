"""Entries of the privacy ledger as values, and what follows from a sequence of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self, cast

from client.ledger.chain import Body, Row
from transfer.errors import LedgerError, UsageError
from transfer.privacy import Spend, Unit, unit_of

MOST_DECLINES = 10_000
"""Declines a ledger keeps: honest rounds of decades, some 10 MB on disk, and read in well under a second.

How many there are, and some of what they say, is up to whoever asks: both are bounded, so that no coordinator can
fill the owner's disk or slow the ledger with questions.
"""
LONGEST_WHY = 500
"""Characters of a reason: room for several rules of a policy at once."""


class Kind(StrEnum):
    """What an entry says."""

    RECORDS = "records"
    """New records became part of the data set."""
    MERGE = "merge"
    """The data set `subject` became part of this one."""
    SPEND = "spend"
    """A privacy cost was reserved for the round `subject`."""
    REPLY = "reply"
    """The answer to the round `subject` was kept."""
    STOP = "stop"
    """Its owner stopped the round `subject` before it had an answer."""
    AGAIN = "again"
    """The round `subject`, which was stopped, is tuned under the spend that was reserved for it."""
    DECLINE = "decline"
    """A request for the round `subject` was declined; it concerns no data set and costs nothing."""


_COURSE = Kind.SPEND, Kind.REPLY, Kind.STOP, Kind.AGAIN
"""What can become of a round that is paid for."""


@dataclass(frozen=True, slots=True)
class Declined:
    """What was declined and why; the same request declined for the same reason again is the same.

    Attributes:
        round_name: the round asked for.
        refusal: kind of refusal, the name of a `transfer.protocol.rounds.Refusal` in lower case.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Attributes:
        number: position in the chain, from 1.
        time: UTC, ISO 8601; for reading only, nothing depends on it.
        digest: hash of the chain up to here, hex.
        subject: a round, or the data set that was merged.
        spend: what was reserved.
        content: SHA-256 (hex) of the fingerprints or the reply kept beside the chain, or of the
            request that was reserved for.
        declined: what was declined and why.
    """

    number: int
    time: str
    kind: Kind
    data_set: str
    digest: str
    subject: str = ""
    spend: Spend | None = None
    content: str = ""
    declined: Declined | None = None


def entry(row: Row) -> Entry:
    """The entry a row of the chain holds.

    Raises:
        LedgerError: it holds none.
    """
    body = row.body
    try:
        kind = Kind(str(body["kind"]))
        subject, spend, declined = str(body["subject"]), None, None
        if kind is Kind.SPEND:
            unit = cast(Unit, body.get("unit", "record"))  # entries from before there was a choice have none
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
            f"entry {row.number} of the ledger is of an unknown form: update promptferry"
        ) from error


def body(kind: Kind, data_set: str, subject: str, *, content: str = "", **facts: str | int | float) -> Body:
    """What a row says of an entry made now; `facts` are those of its kind alone."""
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
    """All entries so far, and the questions they answer.

    Attributes:
        entries: oldest first, without declines, which answer none of the questions.
        declines: oldest first, by what they say.
    """

    entries: tuple[Entry, ...]
    declines: Mapping[Declined, Entry]

    def homes(self) -> dict[str, str]:
        """Every data set id ever used, oldest first, with the id of the data set it belongs to now."""
        homes: dict[str, str] = {}
        for entry in self.entries:
            if entry.kind is Kind.RECORDS:
                homes.setdefault(entry.data_set, entry.data_set)
            elif entry.kind is Kind.MERGE:
                for name, home in homes.items():
                    homes[name] = entry.data_set if home == entry.subject else home
        return homes

    def data_sets(self) -> list[str]:
        """Ids of all data sets, oldest first, without those merged into another."""
        return list(dict.fromkeys(self.homes().values()))

    def owners(self, numbers: Iterable[int | None]) -> list[str]:
        """Data sets, oldest first, whose records were learnt by one of these entries."""
        wanted, homes = set(numbers), self.homes()
        owning = {homes[e.data_set] for e in self.entries if e.kind is Kind.RECORDS and e.number in wanted}
        return [name for name in self.data_sets() if name in owning]

    def spends(self, data_set: str) -> Iterator[Spend]:
        """Everything spent on a data set and on those merged with it."""
        homes = self.homes()
        home = homes.get(data_set)
        for entry in self.entries:
            if entry.spend is not None and homes[entry.data_set] == home:
                yield entry.spend

    def unit(self, data_set: str) -> Unit | None:
        """The unit of everything spent on a data set; None if nothing was."""
        return unit_of(self.spends(data_set))

    def stopped(self) -> dict[str, str]:
        """Rounds that were stopped and not tuned again since, and the request each was reserved for."""
        last = {entry.subject: entry for entry in self.entries if entry.kind in _COURSE}
        return {name: entry.content for name, entry in last.items() if entry.kind is Kind.STOP}

    def is_over(self, round_name: str, request: str) -> bool:
        """Whether a round is paid for, and was not stopped or not on the way to an answer to this request."""
        paid = self.of_round(Kind.SPEND, round_name) is not None
        return paid and self.stopped().get(round_name) != request

    def of_round(self, kind: Kind, round_name: str) -> Entry | None:
        """The round's reservation or reply."""
        return next((e for e in self.entries if e.kind is kind and e.subject == round_name), None)
