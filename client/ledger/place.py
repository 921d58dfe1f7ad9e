"""Where a ledger is kept, the key that vouches for its head, and what it is sealed with."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.vault.vault import UNLOCKED, Vault


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """All that opening a ledger takes.

    Attributes:
        path: the database file.
        signer: the owner's signing key, which signs every head.
        apart: the head file, best on another disk; None for `<path>.head`.
        vault: unseals the ledger; its newest key seals a new one.
    """

    path: Path
    signer: Ed25519PrivateKey = field(repr=False)
    apart: Path | None = None
    vault: Vault = UNLOCKED

    @property
    def head(self) -> Path:
        """The head file."""
        return self.apart or self.path.with_name(f"{self.path.name}.head")
