"""The signed heads of a chain, in a file that can be on another disk than the rows.

A line is the number and the digest of the last row of its time, with the owner's Ed25519 signature over both and the
chain's genesis. Without the key, whoever writes the file can repeat an old head but cannot make a new one. If rows
*and* head go back to an earlier state together, nothing shows it: keep the head on another disk.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transfer import hints
from transfer.errors import LedgerError, VerificationError
from transfer.files.atomic import replace
from transfer.protocol.signing import Envelope, key_id, sign

HEAD_TYPE = "application/vnd.promptferry.ledger-head.v1+text"

_LINE = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64}) ([0-9a-f]{128})")


def restore() -> str:
    """The next step for a ledger that does not match its head."""
    return f"restore the newest copy, or accept the loss with {hints.client('ledger declare-loss')}"


@dataclass(frozen=True, slots=True, order=True)
class Head:
    """Number ≥ 0 and digest (hex) of the last row, and the signature (hex) of both."""

    number: int
    digest: str
    signature: str


@dataclass(frozen=True, slots=True)
class HeadFile:
    """The heads of the chain that starts with the digest `genesis`, oldest first, signed by `signer`."""

    path: Path
    genesis: str
    signer: Ed25519PrivateKey = field(repr=False)

    def start(self, number: int, digest: str) -> None:
        """Make this the only head, whatever the file contains."""
        replace(self.path, self._line(number, digest))

    def remember(self, number: int, digest: str) -> None:
        """Add a head; durable on return."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, self._line(number, digest))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def heads(self) -> list[Head]:
        """Return the heads in the file by rising number, none without a file; skip a line torn by a crash."""
        try:
            lines = self.path.read_text(encoding="ascii", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        return sorted(Head(int(m[1]), m[2], m[3]) for m in map(_LINE.fullmatch, lines) if m)

    def newest(self, heads: list[Head]) -> Head:
        """Return the newest of `heads` after checking its signature. Its digest covers all rows before it.

        Raises:
            LedgerError: there is none, or it is not signed by this client for this chain.
        """
        if not heads:
            raise LedgerError(f"{self.path} is missing or has no signed head: mount its disk, or {restore()}")
        head, key = heads[-1], self.signer.public_key()
        envelope = Envelope(
            HEAD_TYPE, self._payload(head.number, head.digest), key_id(key), bytes.fromhex(head.signature)
        )
        try:
            envelope.verify(key, HEAD_TYPE)
        except VerificationError as error:
            raise LedgerError(
                f"{self.path}: the head of entry {head.number} is not signed by this client's key for this "
                f"ledger: {restore()}"
            ) from error
        return head

    def _line(self, number: int, digest: str) -> bytes:
        signature = sign(self._payload(number, digest), HEAD_TYPE, self.signer).signature.hex()
        return (
            f"\n{number} {digest} {signature}\n".encode()
        )  # a leading newline keeps it whole after a torn line

    def _payload(self, number: int, digest: str) -> bytes:
        return f"{self.genesis} {number} {digest}".encode()
