"""Where the ledgers of these tests lie, and whose they are."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.place import LedgerPlace

KEY = Ed25519PrivateKey.from_private_bytes(b"owner of the ledgers of a test..")
"""The same in every process of a test."""


def at(path: Path) -> LedgerPlace:
    """A ledger of the owner of `KEY`."""
    return LedgerPlace(path, KEY)
