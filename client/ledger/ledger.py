"""The durable privacy ledger: what is spent on each data set, written down before it is spent.

`reserve` commits a round's spend before training may begin; a reservation without a reply after a crash stays
spent (`client.ledger.reservation`). Nothing is ever refunded or deleted (see `client.ledger.file` and
`client.ledger.chain`).

A data set is known by its records, not by its file: a file that shares a record with a known data set is that
data set, so renaming, relabelling, adding and removing records start no new budget. Where the unit of privacy is
the user, a file that shares a user is that data set as well. Records and users are remembered as keyed
fingerprints; the key never leaves the ledger.

All spends of a data set are of one unit, since those of different ones do not compose. Adjacency: add or remove it.
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
        """Makes and opens a new ledger file, mode 0600.

        Raises:
            AlreadyExistsError: a ledger, or the head file of a lost one, is there.
        """
        LedgerFile.create(place)
        return cls.open(place)

    @classmethod
    def open(cls, place: LedgerPlace) -> Self:
        """Opens and verifies an existing ledger.

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
        """Opens a ledger whose newest entries are gone for good, charging `assumed` to each data set left.

        The owner answers for `assumed` being no less than what the lost entries had spent. It is charged in the
        data set's own unit, and in that of `assumed` where nothing spent is left.

        Raises:
            LedgerError: what is left does not hold together.
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
                for name in history.stopped():  # what is lost may be its answer
                    ledger._file.append(Kind.AGAIN, "", name)
            ledger._file.forget_lost()
            ledger.verify()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fingerprint(self, text: str, unit: Unit = "record") -> bytes:
        """Keyed hash of a record, of its text alone, or of a user; blind to case, spacing and Unicode form.

        The label is left out on purpose: a relabelled record is still the same person's record.
        """
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        plain = " ".join(folded.split()).encode("utf-8", "surrogatepass")
        kind = b"" if unit == "record" else b"user\n"  # no folded text holds a line break
        return hmac.digest(self._file.key, kind + plain, "sha256")

    def data_set(self, fingerprints: Iterable[bytes]) -> str:
        """Id of the data set these records and users belong to; those that are new are learnt.

        Records of several known data sets make them one, charged with the spends of all.

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
        """Writes down `spend` for a round if `budget` covers it after all earlier ones. Durable on return.

        The same round asked again gets its first reservation, whatever the budget is by now. That is fresh once more
        if the round was stopped and `request` (SHA-256, hex) is the one it was reserved for.

        Raises:
            BudgetRefusedError: the budget does not cover it, or earlier spends on the data set are for another
                unit; nothing was written.
            LedgerError: the data set is unknown, or the round was reserved for another or another spend.
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
        """Writes down that its owner stopped a reserved round before it had an answer. Durable on return."""
        with self._file.writing() as history:
            if (reserved := history.of_round(Kind.SPEND, round_name)) is not None:
                self._file.append(Kind.STOP, reserved.data_set, round_name, content=reserved.content)

    def is_over(self, round_name: str, request: str) -> bool:
        """Whether a round is paid for and may not be tuned again to answer this request (SHA-256, hex)."""
        return self._file.history().is_over(round_name, request)

    def store_reply(self, round_name: str, reply: bytes) -> None:
        """Keeps the exact bytes that answer a reserved round. Durable on return: send them only then.

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
        """Writes down what is declined and why, once. Durable on return: decline only then.

        Beyond `MOST_DECLINES` nothing is written; the log says so when that is reached.
        """
        with self._file.writing() as history:
            room = MOST_DECLINES - len(history.declines)
            new = declined not in history.declines and room > 0
            if new:
                self._file.decline(declined)
        if new and room == 1:
            logger.warning("%s: %d declines, further ones are only logged", self._file.path, MOST_DECLINES)

    def reply(self, round_name: str) -> bytes | None:
        """The bytes kept for a round, if any."""
        return self._reply(self._file.history(), round_name)

    def entries(self) -> list[Entry]:
        """All entries, oldest first, but for declines."""
        return list(self._file.history().entries)

    def declines(self) -> list[Entry]:
        """All entries of declines, oldest first."""
        return list(self._file.history().declines.values())

    def data_sets(self) -> list[str]:
        """Ids of all data sets, oldest first, without those merged into another."""
        return self._file.history().data_sets()

    def spends(self, data_set: str) -> list[Spend]:
        """Everything spent on a data set, oldest first; nothing for an unknown one."""
        return list(self._file.history().spends(data_set))

    def unit(self, data_set: str) -> Unit | None:
        """The unit of everything spent on a data set; None if nothing was."""
        return self._file.history().unit(data_set)

    def epsilon(self, data_set: str, delta: float) -> float:
        """ε at `delta` of everything spent on a data set."""
        return epsilon(self.spends(data_set), delta)

    def head(self) -> tuple[int, str]:
        """Number and digest (hex) of the newest entry; 0 and a digest of the key if there is none."""
        return self._file.head()

    def verify(self) -> int:
        """Reads the whole ledger again; returns the number of entries.

        Raises:
            LedgerError: names the first bad entry, or says that newer ones are missing.
        """
        return self._file.verify()

    def _reply(self, history: History, round_name: str) -> bytes | None:
        kept = history.of_round(Kind.REPLY, round_name)
        return None if kept is None else self._file.reply(kept)
