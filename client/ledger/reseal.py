"""Replacement of a ledger's seal, which leaves nothing of the old contents in its files."""

import sqlite3
from contextlib import closing

from client.ledger import chain
from client.ledger.place import LedgerPlace
from client.vault.seal import Seal
from transfer.errors import LedgerError

_SEALED = (("chain", "row"), ("replies", "reply"), ("identity", "key"))
"""Every sealed column; a value is bound to its table and to its row id, the number of its entry."""


def reseal(place: LedgerPlace, seal: Seal) -> None:
    """Seal everything in the ledger again, in one transaction.

    Guarantee: if the process is killed, the ledger has either the old seal or the new one. SQLite overwrites what it
    frees (`secure_delete`) and rewrites the file and the write-ahead log.

    Raises:
        LedgerError: another process is reading the ledger.
        VerificationError: a value is not what was sealed; nothing was changed.
    """
    with chain.reported(place.path), closing(chain.connect(place.path)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN IMMEDIATE")
        [(version,)] = connection.execute("SELECT version FROM identity").fetchall()
        for table, column in _SEALED:
            _reseal(connection, table, column, place.vault.seal(version), seal)
        connection.execute("UPDATE identity SET version = ?", (seal.version,))
        connection.execute("COMMIT")
        connection.execute("VACUUM")
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise LedgerError(f"{place.path} is being read by another process: run this again")


def _reseal(connection: sqlite3.Connection, table: str, column: str, old: Seal, new: Seal) -> None:
    numbers = [number for (number,) in connection.execute(f"SELECT rowid FROM {table}")]  # noqa: S608
    for number in numbers:
        query = f"SELECT {column} FROM {table} WHERE rowid = ?"  # noqa: S608
        [(value,)] = connection.execute(query, (number,)).fetchall()
        plain = value.encode() if isinstance(value, str) else old.unseal(f"{table}/{number}", value)
        update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"  # noqa: S608
        connection.execute(update, (new.seal(f"{table}/{number}", plain), number))
