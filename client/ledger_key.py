"""The fingerprint key of a ledger file, and the version of the seal that is on everything in it."""

import sqlite3

from client.ledger_place import LedgerPlace
from client.seal import Seal
from transfer.errors import LedgerError, VerificationError

SCHEMA = "CREATE TABLE identity (key BLOB NOT NULL, version INTEGER NOT NULL) STRICT;"

_PLACE = "identity/1"


def keep(connection: sqlite3.Connection, key: bytes, seal: Seal) -> None:
    """Writes the key of a new ledger file."""
    connection.execute("INSERT INTO identity VALUES (?, ?)", (seal.seal(_PLACE, key), seal.version))


def read(connection: sqlite3.Connection, place: LedgerPlace) -> tuple[bytes, Seal]:
    """The fingerprint key and the seal of everything in the file.

    Raises:
        LedgerError: the file is of an older form, has no key or several, or the key cannot be trusted.
    """
    cursor = connection.execute("SELECT * FROM identity")
    if [column for column, *_ in cursor.description] != ["key", "version"]:
        raise LedgerError(
            f"{place.path}: a ledger of an older form, which cannot be read any more: go on with the promptferry "
            "that made it; a new one, made where it was moved away, knows nothing of what was spent"
        )
    found = cursor.fetchall()
    if len(found) != 1:
        raise LedgerError(
            f"{place.path}: the ledger has {len(found)} fingerprint keys, must be 1: restore it"
        )
    [(key, version)] = found
    try:
        seal = place.vault.seal(version)
        return seal.unseal(_PLACE, key), seal
    except VerificationError as error:
        raise LedgerError(
            f"{place.path}: the fingerprint key cannot be trusted: {error}: restore it"
        ) from error
