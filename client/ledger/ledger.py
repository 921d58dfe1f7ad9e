"""The durable privacy ledger: it records what is spent on each data set before it is spent.

`reserve` commits a round's spend before training may begin. A crash leaves the round spent
(`client.ledger.reservation`) and nothing is ever refunded or deleted (`client.ledger.file`, `client.ledger.chain`).

A data set is its records, not its file: a file that shares a record, or a user if the user is the unit of privacy,
with a known data set is that data set. Renaming, relabelling, adding and removing records start no new budget.
Records and users are stored as keyed fingerprints; the key never leaves the ledger. All spends of a data set are for
one unit, since different units do not compose. Adjacency: add or remove one unit.
"""

import hmac
import logging
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from client.ledger.budget import require_covered, require_one_unit
from client.ledger.entries import MOST_DECLINES, Declined, Entry, History, Kind
from client.ledger.file import LedgerFile
from client.ledger.place import LedgerPlace
from client.ledger.reservation import Reservation
from transfer.errors import LedgerError, UsageError
from transfer.privacy import Budget, Spend, Unit, epsilon

logger = logging.getLogger(__name__)


class Ledger:
    """An open ledger. One thread uses it; any number of processes may have the same file open."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    @classmethod
    def create(cls, place: LedgerPlace) -> Self:
        """Make and open a new ledger file, mode 0600.

        Raises:
            AlreadyExistsError: a ledger, or the head file of a lost ledger, exists.
        """
        LedgerFile.create(place)
        return cls.open(place)

    @classmethod
    def open(cls, place: LedgerPlace) -> Self:
        """Open and verify an existing ledger.

        Raises:
            LedgerError: it is missing, damaged, changed, rolled back, or not durable where it is.
            UsageError: others may read or write the file.
        """
        ledger = cls(LedgerFile.open(place))
        try:
            ledger.verify()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def declare_loss(cls, place: LedgerPlace, assumed: Spend) -> Self:
        """Open a ledger whose newest entries are lost for good, charging `assumed` to each data set left.

        Guarantee: ε stays an upper bound if `assumed` is at least what the lost entries had spent; the owner answers
        for that. Every stopped round is over. Edge cases: a data set without spends is charged in the unit of
        `assumed`; a data set whose records were lost as well is charged nothing.

        Raises:
            LedgerError: the entries left are damaged.
        """
        ledger = cls(LedgerFile.open(place))
        try:
            with ledger._file.writing() as history:
                ledger._file.verify_contents()
                last, _ = ledger._file.head()
                for data_set in history.data_sets():
                    subject = f"lost after {last} of {data_set}"
                    charged = replace(assumed, unit=history.unit(data_set) or assumed.unit)
                    ledger._file.append(Kind.SPEND, data_set, subject, charged)
                for name in history.stopped():  # its reply may be among the lost entries
                    ledger._file.append(Kind.AGAIN, "", name)
            ledger._file.forget_lost()
            ledger.verify()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fingerprint(self, text: str, unit: Unit = "record") -> bytes:
        """Return the keyed hash of a record's text or of a user, ignoring case, spacing and Unicode form.

        The label is left out on purpose: a relabelled record is still the same person's record.
        """
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        plain = " ".join(folded.split()).encode("utf-8", "surrogatepass")
        kind = b"" if unit == "record" else b"user\n"  # no folded text has a line break
        return hmac.digest(self._file.key, kind + plain, "sha256")

    def data_set(self, fingerprints: Iterable[bytes]) -> str:
        """Return the id of the data set of these records and users; add those that are new.

        If they belong to several known data sets, these become one, charged with the spends of all.

        Raises:
            BudgetRefusedError: these data sets were spent for different units; nothing was written.
            UsageError: there are no records.
        """
        wanted = set(fingerprints)
        if not wanted:
            raise UsageError("a data set needs at least one record")
        with self._file.writing() as history:
            learnt = {fingerprint: self._file.learnt(fingerprint) for fingerprint in wanted}
            first, *others = history.owners(learnt.values()) or [f"data-{secrets.token_hex(8)}"]
            require_one_unit(history, [first, *others])
            for other in others:
                self._file.append(Kind.MERGE, first, other)
            if new := [fingerprint for fingerprint, number in learnt.items() if number is None]:
                self._file.learn(first, new)
        return first

    def reserve(
        self, data_set: str, round_name: str, spend: Spend, budget: Budget, request: str = ""
    ) -> Reservation:
        """Write down `spend` for a round if `budget` covers it after all earlier ones.

        Guarantee: the spend is durable on return and counts in every later call. A reservation is fresh once, and
        once more after each `stop` if `request` (SHA-256, hex) is the same. Edge cases: a round reserved before gets
        its first reservation, whatever the budget is by now; only an infinite budget covers σ = 0.

        Raises:
            BudgetRefusedError: the budget does not cover it, or the unit is another one; nothing was written.
            LedgerError: the data set is unknown, or the round was reserved for another data set or another spend.
        """
        with self._file.writing() as history:
            home = history.homes().get(data_set)
            if home is None:
                raise LedgerError(f"{self._file.path}: unknown data set {data_set!r}: register its records")
            earlier = history.of_round(Kind.SPEND, round_name)
            if earlier is None:
                require_covered(history, home, spend, budget)
                self._file.append(Kind.SPEND, home, round_name, spend, request)
                return Reservation(round_name, home, spend, fresh=True)
            if earlier.spend != spend or history.homes()[earlier.data_set] != home:
                raise LedgerError(
                    f"round {round_name} was reserved before, for {earlier.spend} on {earlier.data_set}: "
                    f"it cannot be reserved for {spend} on {home}"
                )
            if again := not history.is_over(round_name, request):
                self._file.append(Kind.AGAIN, home, round_name)
            return Reservation(round_name, home, spend, again, self._reply(history, round_name))

    def stop(self, round_name: str) -> None:
        """Write down that the owner stopped a reserved round before it had a reply.

        Guarantee: durable on return; the same request may then be tuned once more. Without a reservation, do nothing.
        """
        with self._file.writing() as history:
            if (reserved := history.of_round(Kind.SPEND, round_name)) is not None:
                self._file.append(Kind.STOP, reserved.data_set, round_name, content=reserved.content)

    def is_over(self, round_name: str, request: str) -> bool:
        """Tell whether a round is paid for and may not be tuned again to answer this request (SHA-256, hex)."""
        return self._file.history().is_over(round_name, request)

    def store_reply(self, round_name: str, reply: bytes) -> None:
        """Store the exact bytes that answer a reserved round; send them only after return.

        Guarantee: durable on return, and the round never gets another reply. The same bytes again change nothing.

        Raises:
            LedgerError: the round is not reserved, or has another reply.
        """
        with self._file.writing() as history:
            reserved = history.of_round(Kind.SPEND, round_name)
            if reserved is None:
                raise LedgerError(f"round {round_name} has no reservation: nothing may be released for it")
            earlier = self._reply(history, round_name)
            if earlier is None:
                self._file.keep_reply(reserved.data_set, round_name, reply)
            elif earlier != reply:
                raise LedgerError(f"round {round_name} has another reply already: a round is answered once")

    def decline(self, declined: Declined) -> None:
        """Write down a decline once, `MOST_DECLINES` at most. It is durable on return: send it only then."""
        with self._file.writing() as history:
            room = MOST_DECLINES - len(history.declines)
            new = declined not in history.declines and room > 0
            if new:
                self._file.decline(declined)
        if new and room == 1:
            logger.warning("%s: %d declines, further ones are only logged", self._file.path, MOST_DECLINES)

    def reply(self, round_name: str) -> bytes | None:
        """Return the bytes stored for a round, if any."""
        return self._reply(self._file.history(), round_name)

    def entries(self) -> list[Entry]:
        """Return all entries but declines, oldest first."""
        return list(self._file.history().entries)

    def declines(self) -> list[Entry]:
        """Return all declines, oldest first."""
        return list(self._file.history().declines.values())

    def data_sets(self) -> list[str]:
        """Return the ids of all data sets, oldest first, without those merged into another."""
        return self._file.history().data_sets()

    def spends(self, data_set: str) -> list[Spend]:
        """Return everything spent on a data set, oldest first; nothing for an unknown one."""
        return list(self._file.history().spends(data_set))

    def unit(self, data_set: str) -> Unit | None:
        """Return the unit of everything spent on a data set; None if nothing was spent."""
        return self._file.history().unit(data_set)

    def epsilon(self, data_set: str, delta: float) -> float:
        """Return ε at `delta` of everything spent on a data set."""
        return epsilon(self.spends(data_set), delta)

    def head(self) -> tuple[int, str]:
        """Return number and digest (hex) of the newest entry; 0 and a digest of the key if there is none."""
        return self._file.head()

    def verify(self) -> int:
        """Read the whole ledger again and return the number of entries.

        Raises:
            LedgerError: names the first bad entry, or says that newer ones are missing.
        """
        return self._file.verify()

    def _reply(self, history: History, round_name: str) -> bytes | None:
        entry = history.of_round(Kind.REPLY, round_name)
        return None if entry is None else self._file.reply(entry)
