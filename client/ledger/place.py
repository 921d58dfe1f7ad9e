"""The place of a ledger, the key that signs its head, and the vault that seals it."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.vault.vault import UNLOCKED, Vault


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Everything needed to open a ledger.

    Attributes:
        path: the database file.
        signer: the owner's signing key, which signs every head.
        apart: the head file, preferably on another disk; None for `<path>.head`.
        vault: unseals the ledger; its newest key seals a new ledger.
    """

    path: Path
    signer: Ed25519PrivateKey = field(repr=False)
    apart: Path | None = None
    vault: Vault = UNLOCKED

    @property
    def head(self) -> Path:
        """The head file."""
        return self.apart or self.path.with_name(f"{self.path.name}.head")
