"""Encryption of what a client stores: AES-256-GCM, bound to the place of a value and to the key's version."""

import os
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from transfer.errors import VerificationError

NONCE_BYTES = 12
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Seal:
    """A key of 32 bytes and its version ≥ 0. Without a key it changes nothing.

    A sealed value is nonce ‖ ciphertext ‖ tag. Nonces are random: at most 2³² values per key (NIST SP 800-38D, 8.3).

    Raises:
        VerificationError: the key has another length.
    """

    version: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) not in (0, KEY_BYTES):
            raise VerificationError(f"key {self.version} has {len(self.key)} bytes, must have {KEY_BYTES}")

    @classmethod
    def new(cls, version: int) -> Self:
        """Make a seal with a new random key."""
        return cls(version, os.urandom(KEY_BYTES))

    def seal(self, place: str, plain: bytes) -> bytes:
        """Encrypt a value for its `place`, such as `chain/7`."""
        if not self.key:
            return plain
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, plain, self._bound_to(place))

    def unseal(self, place: str, sealed: bytes) -> bytes:
        """Decrypt what `seal` made for this place.

        Raises:
            VerificationError: the value was changed or cut, or belongs to another place, version or key.
        """
        if not self.key:
            return sealed
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return AESGCM(self.key).decrypt(nonce, rest, self._bound_to(place))
        except (InvalidTag, ValueError) as error:
            raise VerificationError(
                f"{place} is not what was sealed there with key {self.version}"
            ) from error

    def _bound_to(self, place: str) -> bytes:
        return f"promptferry {place}/{self.version}".encode()


NONE = Seal(0, b"")
"""The seal of a value in plain text."""
