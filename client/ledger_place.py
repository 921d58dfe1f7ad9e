"""Where a ledger is kept, and the key that vouches for its head."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """All that opening a ledger takes.

    Attributes:
        path: the database file.
        signer: the owner's signing key, which signs every head.
        apart: the head file, best on another disk; None for `<path>.head`.
    """

    path: Path
    signer: Ed25519PrivateKey = field(repr=False)
    apart: Path | None = None

    @property
    def head(self) -> Path:
        """The head file."""
        return self.apart or self.path.with_name(f"{self.path.name}.head")
