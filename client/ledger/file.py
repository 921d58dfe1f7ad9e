"""The file of a privacy ledger: a hash chain of entries, record fingerprints and replies, in SQLite.

It uses the standard library's `sqlite3`, so that nothing stands between this code and the sync to disk. Fingerprints
and replies are stored beside the chain and bound to it by the SHA-256 in their entry.

In an encrypted directory one key of the vault seals the fingerprint key, the text of each row and each reply.
`version` names that key; version 0 seals nothing. Fingerprints must be looked up, so they are not sealed: they are
HMACs under the sealed key and reveal how many records there are. Numbers, digests and sizes are not sealed either.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Self

from client.ledger import chain
from client.ledger import schema as ledger_schema
from client.ledger.entries import Declined, Entry, History, Kind, body, entry
from client.ledger.head_file import HeadFile, restore
from client.ledger.place import LedgerPlace
from client.vault.permissions import require_private
from client.vault.seal import NONE, Seal
from transfer.errors import AlreadyExistsError, LedgerError, VerificationError
from transfer.files.atomic import write_new
from transfer.privacy import Spend


class LedgerFile:
    """An open ledger file, for one thread; any number of processes may have it open.

    Attributes:
        path: the file.
        key: 32 random bytes of this file, for fingerprints; the chain is bound to them.
    """

    def __init__(
        self, place: LedgerPlace, connection: sqlite3.Connection, key: bytes, seal: Seal = NONE
    ) -> None:
        self.path = place.path
        self.key = key
        self._connection = connection
        self._seal = seal
        self._forget()
        self._chain = chain.Chain(place.path, connection, _head_file(place, key), seal)

    @classmethod
    def create(cls, place: LedgerPlace) -> None:
        """Make an empty ledger file, mode 0600, with a new key. The head comes first, so no ledger lacks one.

        Raises:
            AlreadyExistsError: a ledger, or the head file of a lost ledger, exists.
        """
        key = secrets.token_bytes(32)
        head_file = _head_file(place, key)
        if place.path.exists():
            raise AlreadyExistsError(f"{place.path} exists already: it is never overwritten")
        if place.head.exists() and [head.number for head in head_file.heads()] != [0]:
            raise AlreadyExistsError(
                f"{place.head} belongs to a ledger: restore {place.path}, or move both away"
            )
        with chain.reported(place.path), closing(sqlite3.connect(":memory:")) as draft:
            draft.executescript(ledger_schema.SCHEMA)
            ledger_schema.keep(draft, key, place.vault.newest)
            draft.commit()
            content = draft.serialize()
        head_file.start(0, head_file.genesis)
        write_new(place.path, content)

    @classmethod
    def open(cls, place: LedgerPlace) -> Self:
        """Open an existing file without verifying its contents.

        Raises:
            LedgerError: it is missing, no ledger, or not durable where it is.
            UsageError: others may read or write it.
        """
        path = place.path
        if not path.is_file():
            lost = f"{place.head} belongs to one: restore it"
            new = "`promptferry-client init` makes one"
            raise LedgerError(f"no ledger at {path}: {lost if place.head.exists() else new}")
        with chain.reported(path):
            require_private(path, path.stat().st_mode)
            connection = chain.connect(path)
            try:
                return cls(place, connection, *ledger_schema.read(connection, place))
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[History]:
        """Open one transaction on the history so far; durable when the block ends, undone if it raises."""
        with chain.reported(self.path), self._chain.writing():
            yield self._history()

    def history(self) -> History:
        """Return all entries so far."""
        with chain.reported(self.path):
            return self._history()

    def head(self) -> tuple[int, str]:
        """Return number and digest of the newest entry."""
        self.history()
        return self._chain.head()

    def append(
        self, kind: Kind, data_set: str, subject: str, spend: Spend | None = None, content: str = ""
    ) -> None:
        """Add an entry without content beside the chain; call it within `writing`."""
        self._append(kind, data_set, subject, content, **(asdict(spend) if spend else {}))

    def decline(self, declined: Declined) -> None:
        """Add a decline; call it within `writing`."""
        self._append(Kind.DECLINE, "", declined.round_name, refusal=declined.refusal, why=declined.why)

    def learn(self, data_set: str, fingerprints: Iterable[bytes]) -> None:
        """Add new records to a data set; call it within `writing`."""
        ordered = sorted(fingerprints)
        number = self._append(Kind.RECORDS, data_set, "", content=_digest(ordered))
        self._connection.executemany("INSERT INTO records VALUES (?, ?)", ((f, number) for f in ordered))

    def learnt(self, fingerprint: bytes) -> int | None:
        """Return the number of the entry that added a record, or None; call it within `writing`."""
        query = "SELECT entry FROM records WHERE fingerprint = ?"
        row = self._connection.execute(query, (fingerprint,)).fetchone()
        return None if row is None else int(row[0])

    def keep_reply(self, data_set: str, round_name: str, reply: bytes) -> None:
        """Add a reply; call it within `writing`."""
        number = self._append(Kind.REPLY, data_set, round_name, content=_digest([reply]))
        sealed = self._seal.seal(f"replies/{number}", reply)
        self._connection.execute("INSERT INTO replies VALUES (?, ?)", (number, sealed))

    def reply(self, stored: Entry) -> bytes:
        """Return the bytes that a reply's entry stored.

        Raises:
            LedgerError: the bytes differ from those that were stored.
        """
        with chain.reported(self.path):
            query = "SELECT reply FROM replies WHERE entry = ?"
            row = self._connection.execute(query, (stored.number,)).fetchone()
        try:
            reply = self._seal.unseal(f"replies/{stored.number}", row[0]) if row else None
        except VerificationError:
            reply = None
        if reply is None or _digest([reply]) != stored.content:
            raise LedgerError(f"{self.path}: the reply of entry {stored.number} was changed: {restore()}")
        return reply

    def verify(self) -> int:
        """Read everything again, compare it with the head file, and return the number of entries.

        Raises:
            LedgerError: names the first bad entry, or says that newer ones are missing.
        """
        with chain.reported(self.path):
            self._forget()
            self._connection.execute("BEGIN")  # one snapshot, as others may be appending
            try:
                count = self._chain.verify()
                self.verify_contents()
            finally:
                self._connection.execute("ROLLBACK")
        return count

    def verify_contents(self) -> None:
        """Compare records and replies with the chain.

        Raises:
            LedgerError: names the first entry whose records or reply were changed.
        """
        with chain.reported(self.path):
            rows = self._connection.execute("SELECT entry, fingerprint FROM records ORDER BY fingerprint")
            records: dict[int, list[bytes]] = {}
            for number, fingerprint in rows:
                records.setdefault(number, []).append(fingerprint)
            replies = {row[0] for row in self._connection.execute("SELECT entry FROM replies")}
            for each in self._history().entries:
                if each.kind is Kind.RECORDS and _digest(records.pop(each.number, [])) != each.content:
                    raise LedgerError(
                        f"{self.path}: records of entry {each.number} were changed: {restore()}"
                    )
                if each.kind is Kind.REPLY:
                    self.reply(each)
                    replies.discard(each.number)
        if strays := sorted(records | dict.fromkeys(replies)):
            raise LedgerError(
                f"{self.path} has content for entry {strays[0]}, which does not exist: {restore()}"
            )

    def forget_lost(self) -> None:
        """Make the last entry that exists the head, in place of newer entries that were declared lost."""
        with chain.reported(self.path):
            self._chain.forget_lost()

    def _forget(self) -> None:
        self._read = 0
        self._entries: list[Entry] = []
        self._declines: dict[Declined, Entry] = {}

    def _history(self) -> History:
        for row in self._chain.rows(after=self._read):
            new = entry(row)
            if new.declined:
                self._declines[new.declined] = new
            else:
                self._entries.append(new)
            self._read = row.number
        return History(tuple(self._entries), self._declines)

    def _append(
        self, kind: Kind, data_set: str, subject: str, content: str = "", **facts: str | int | float
    ) -> int:
        return self._chain.append(body(kind, data_set, subject, content=content, **facts)).number


def _head_file(place: LedgerPlace, key: bytes) -> HeadFile:
    return HeadFile(place.head, hashlib.sha256(b"promptferry ledger" + key).hexdigest(), place.signer)


def _digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 (hex) of byte strings of one fixed length, or of a single byte string."""
    return hashlib.sha256(b"".join(parts)).hexdigest()
