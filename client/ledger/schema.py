"""The tables of a ledger file, and the row needed to read them: the fingerprint key and the version of the seal."""

import sqlite3

from client.ledger.place import LedgerPlace
from client.vault.seal import Seal
from transfer.errors import LedgerError, VerificationError

SCHEMA = """
CREATE TABLE chain (number INTEGER PRIMARY KEY, row ANY NOT NULL, digest TEXT NOT NULL) STRICT;
CREATE TABLE identity (key BLOB NOT NULL, version INTEGER NOT NULL) STRICT;
CREATE TABLE records (fingerprint BLOB PRIMARY KEY, entry INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE replies (entry INTEGER PRIMARY KEY, reply BLOB NOT NULL) STRICT;
"""
"""`chain` belongs to `client.ledger.chain`; `records` and `replies` have the content of its entries."""

_PLACE = "identity/1"


def keep(connection: sqlite3.Connection, key: bytes, seal: Seal) -> None:
    """Write the key of a new ledger file."""
    connection.execute("INSERT INTO identity VALUES (?, ?)", (seal.seal(_PLACE, key), seal.version))


def read(connection: sqlite3.Connection, place: LedgerPlace) -> tuple[bytes, Seal]:
    """Return the fingerprint key and the seal of everything in the file.

    Raises:
        LedgerError: the file has an older form, no key or several, or a key that cannot be trusted.
    """
    cursor = connection.execute("SELECT * FROM identity")
    if [column for column, *_ in cursor.description] != ["key", "version"]:
        raise LedgerError(
            f"{place.path} is a ledger of an older form, which this version cannot read: use the version that made "
            "it, or make a new directory with `promptferry-client init`; its ledger has no record of earlier spends"
        )
    rows = cursor.fetchall()
    if len(rows) != 1:
        raise LedgerError(
            f"{place.path}: the ledger has {len(rows)} fingerprint keys, must have 1: restore it"
        )
    [(key, version)] = rows
    try:
        seal = place.vault.seal(version)
        return seal.unseal(_PLACE, key), seal
    except VerificationError as error:
        raise LedgerError(
            f"{place.path}: the fingerprint key cannot be trusted: {error}: restore it"
        ) from error
