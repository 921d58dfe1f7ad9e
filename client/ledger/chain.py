"""An append-only chain of rows in SQLite. Each row is bound to the one before; the last is also in the head file.

A row is canonical JSON with its number and the SHA-256 of the row before; the first row is bound to a genesis value.
After each commit the head (number and digest of the last row) is signed, appended to the head file and synced.
Opening the database compares the two and so detects a truncated or older copy. A crash between commit and head leaves
the head file one step behind; this is harmless, and opening corrects it. In a sealed ledger the text of each row is
sealed too, bound to its number; digests are those of the plain text.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.ledger.head_file import HeadFile, restore
from client.vault.seal import NONE, Seal
from transfer.errors import LedgerError, VerificationError

BUSY_TIMEOUT_S = 60.0
"""How long a writer waits for another writer, which may be computing an ε."""

_FULL = 2

Body = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Row:
    """Row `number` ≥ 1, its content, and the SHA-256 (hex) of its exact text."""

    number: int
    body: Body
    digest: str


class Chain:
    """The rows of one database file. Use it in the thread and the process that opened it.

    Every row is checked when it is read: it must continue the rows read before.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, head_file: HeadFile, seal: Seal = NONE
    ) -> None:
        self._path = path
        self._connection = connection
        self._head_file = head_file
        self._seal = seal
        self._rows: list[Row] = []

    def rows(self, after: int = 0) -> list[Row]:
        """Return the rows with a number above `after`, oldest first.

        Raises:
            LedgerError: a row does not continue the one before.
        """
        self._read()
        return self._rows[after:]

    def head(self) -> tuple[int, str]:
        """Return number and digest of the last row read or appended; (0, genesis) if there is none."""
        return (len(self._rows), self._rows[-1].digest) if self._rows else (0, self._head_file.genesis)

    def append(self, body: Body) -> Row:
        """Add a row; call it within `writing`."""
        count, previous = self.head()
        content: Body = {**body, "number": count + 1, "previous": previous}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        row = Row(count + 1, content, _digest(text))
        stored = self._seal.seal(f"chain/{row.number}", text.encode()) if self._seal.key else text
        self._connection.execute("INSERT INTO chain VALUES (?, ?, ?)", (row.number, stored, row.digest))
        self._rows.append(row)
        return row

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open one transaction, exclusive among all processes.

        Guarantee: appended rows are durable when the block ends, and undone if it raises.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        before = len(self._rows)
        try:
            self._read()
            before = len(self._rows)
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            del self._rows[before:]
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if len(self._rows) > before:
            self._head_file.remember(*self.head())

    def verify(self) -> int:
        """Read everything again, compare it with the head file, and return the number of rows.

        Raises:
            LedgerError: names the first bad row, or says that newer rows are missing.
        """
        heads = self._head_file.heads()  # before the rows: others may be appending
        self._rows.clear()
        rows = self.rows()
        if self._connection.execute("SELECT count(*) FROM chain").fetchone()[0] != len(rows):
            raise LedgerError(f"{self._path} has entries out of order: restore the ledger")
        newest = self._head_file.newest(heads)
        if newest.number > len(rows):
            raise LedgerError(
                f"{self._path} was rolled back or cut: it has {len(rows)} entries, "
                f"{self._head_file.path} records {newest.number}: {restore()}"
            )
        digests = [self._head_file.genesis, *(row.digest for row in rows)]
        for head in heads:
            if head.digest != digests[head.number]:
                raise LedgerError(
                    f"{self._path}: entry {head.number} is not the one in {self._head_file.path}: {restore()}"
                )
        if newest.number < len(rows):
            self._head_file.remember(*self.head())
        return len(rows)

    def forget_lost(self) -> None:
        """Make the last row that exists the head, in place of newer rows that were declared lost."""
        self._head_file.start(*self.head())

    def _read(self) -> None:
        query = "SELECT number, row, digest FROM chain WHERE number >= ? ORDER BY number"
        stored = self._connection.execute(query, (len(self._rows),)).fetchall()
        if self._rows and (not stored or stored.pop(0)[2] != self._rows[-1].digest):
            raise LedgerError(
                f"{self._path}: entry {len(self._rows)} changed while in use: restore the ledger"
            )
        for number, row, digest in stored:
            self._rows.append(self._checked(number, row, digest))

    def _checked(self, number: int, stored: object, digest: str) -> Row:
        count, previous = self.head()
        try:
            text = self._text(number, stored)
            body = json.loads(text)
            valid = (number, body["number"], body["previous"]) == (count + 1, count + 1, previous)
            valid = valid and digest == _digest(text)
        except (ValueError, TypeError, KeyError, RecursionError, VerificationError):
            valid = False
        if not valid:
            raise LedgerError(f"{self._path}: entry {count + 1} was changed, moved or removed: {restore()}")
        return Row(number, body, digest)

    def _text(self, number: int, stored: object) -> str:
        if isinstance(stored, bytes) and self._seal.key:
            return self._seal.unseal(f"chain/{number}", stored).decode()
        if isinstance(stored, str) and not self._seal.key:
            return stored
        raise VerificationError(f"chain/{number} is not kept as rows are")


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file so that its commits survive a power cut.

    Raises:
        LedgerError: SQLite cannot guarantee that here.
    """
    uri = path.resolve().as_uri() + "?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        require_durable(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def require_durable(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a connection that SQLite does not report as WAL mode with synchronous FULL.

    Raises:
        LedgerError: names the setting and its value.
    """
    for name, needed in (("journal_mode", "wal"), ("synchronous", _FULL)):
        actual = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if actual != needed:
            raise LedgerError(
                f"{path}: SQLite {name} is {actual}, must be {needed}: put the ledger on a local disk"
            )


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise SQLite's and the system's errors as LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: the ledger cannot be used: {error}") from error
    except OSError as error:
        raise LedgerError(f"{path}: the ledger cannot be used: {error.strerror}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
