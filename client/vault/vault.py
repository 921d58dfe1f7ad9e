"""The vault: a file with the data keys that seal a client's keys, ledger and agreements; the owner's secret opens it.

As in LUKS, the file has a slot for each secret. A slot has every data key, wrapped under a key that scrypt derives
from the secret (RFC 7914). During re-encryption the vault accepts the old and the new secret and has the old and the
new data keys. `seal.NONE` is the pseudo-key for content that is still in plain text.
"""

import codecs
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import ConfigDict, Field, ValidationError

from client.vault.permissions import require_private
from client.vault.seal import KEY_BYTES, NONE, Seal
from transfer.errors import UsageError, VerificationError
from transfer.files.atomic import replace
from transfer.files.text import is_utf_16
from transfer.files.toml import Settings

SCRYPT_N = 2**15
"""Cost of one guess of a secret: 128·8·N bytes of memory, 32 MiB."""
LEAST_SECRET_BYTES = 16
_SEALED = re.compile(rb"promptferry-sealed ([0-9]{1,9})\n(.*)", re.DOTALL)


class _Slot(Settings):
    """Scrypt's salt and costs for one secret, and every data key by version, wrapped under the derived key."""

    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    salt: bytes
    n: int = Field(ge=2, le=2**20)
    r: int = Field(ge=1, le=16)
    p: int = Field(ge=1, le=16)
    keys: dict[int, bytes]

    @classmethod
    def filled(cls, secret: bytes, seals: Sequence[Seal]) -> Self:
        """Make a new slot for `secret`."""
        empty = cls(salt=os.urandom(16), n=SCRYPT_N, r=8, p=1, keys={})
        key = empty._wrapping_key(secret)
        wrapped = {seal.version: Seal(seal.version, key).seal(empty._place, seal.key) for seal in seals}
        return empty.model_copy(update={"keys": wrapped})

    def opened(self, secret: bytes) -> tuple[Seal, ...]:
        """Unwrap the keys, by rising version.

        Raises:
            VerificationError: the slot is for another secret, or was changed.
        """
        key = self._wrapping_key(secret)
        return tuple(
            Seal(version, Seal(version, key).unseal(self._place, wrapped))
            for version, wrapped in sorted(self.keys.items())
        )

    @property
    def _place(self) -> str:
        return f"vault/{self.salt.hex()}"

    def _wrapping_key(self, secret: bytes) -> bytes:
        try:
            return Scrypt(self.salt, KEY_BYTES, self.n, self.r, self.p).derive(secret)
        except ValueError as error:
            raise VerificationError(f"scrypt cannot work with n = {self.n}") from error


class _File(Settings):
    slots: tuple[_Slot, ...]


@dataclass(frozen=True, slots=True)
class Vault:
    """An open vault.

    Attributes:
        seals: one for each data key, by rising version.
        secrets: the secrets that open it.
    """

    seals: tuple[Seal, ...]
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def newest(self) -> Seal:
        """The seal for new content."""
        return self.seals[-1]

    def seal(self, version: int) -> Seal:
        """Return the seal of a version.

        Raises:
            VerificationError: the vault does not have it.
        """
        for seal in self.seals:
            if seal.version == version:
                return seal
        raise VerificationError(
            f"sealed with key {version}, which the vault lacks" if version else "not sealed"
        )

    def write(self, path: Path) -> None:
        """Replace the file, durably, by one with a slot for each secret."""
        slots = tuple(_Slot.filled(secret, self.seals) for secret in dict.fromkeys(self.secrets))
        replace(path, _File(slots=slots).model_dump_json(indent=1).encode())


UNLOCKED = Vault((NONE,))
"""The vault of a client that encrypts nothing."""


def read(path: Path, secrets: Iterable[bytes]) -> Vault:
    """Open the vault in `path` with those of `secrets` that open it.

    Raises:
        UsageError: the file cannot be read, or no secret opens it.
    """
    try:
        slots = _File.model_validate_json(path.read_bytes()).slots
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"{path} is not a vault: restore it") from error
    opened: dict[bytes, tuple[Seal, ...]] = {}
    for secret in secrets:
        for slot in slots:
            with suppress(VerificationError):
                opened[secret] = slot.opened(secret)
    if not opened:
        raise UsageError(f"{path}: the secret does not open it: name the right one in [client] secret")
    return Vault(next(iter(opened.values())), tuple(opened))


def read_secret(path: Path) -> bytes:
    """Read the passphrase or random bytes in a file, without byte order mark and final line break.

    Raises:
        UsageError: it is missing, open to others, or shorter than 16 bytes.
    """
    try:
        with path.open("rb") as file:
            require_private(path, os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise UsageError(f"cannot read the secret {path}: {error.strerror}") from error
    if is_utf_16(content):
        raise UsageError(f"the secret in {path} is UTF-16: save the file as UTF-8")
    secret = re.sub(rb"\r?\n\Z", b"", content.removeprefix(codecs.BOM_UTF8))
    if len(secret) < LEAST_SECRET_BYTES:
        raise UsageError(
            f"the secret in {path} has {len(secret)} bytes, must have {LEAST_SECRET_BYTES} or more: "
            f"`head -c 32 /dev/urandom | base64` makes one"
        )
    return secret


def sealed(place: str, plain: bytes, seal: Seal) -> bytes:
    """Return the content of a file at `place`, such as `keys/node.pem`, for `plain`.

    It is a line with the version of the data key, then the sealed bytes; without encryption it is `plain`.
    """
    line = b"promptferry-sealed %d\n" % seal.version if seal.version else b""
    return line + seal.seal(place, plain)


def unsealed(place: str, content: bytes, vault: Vault) -> bytes:
    """Return the plain bytes of a content made by `sealed`.

    Raises:
        VerificationError: the vault cannot unseal it, or it must be sealed and is not.
    """
    match = _SEALED.fullmatch(content)
    version, body = (int(match[1]), match[2]) if match else (0, content)
    return vault.seal(version).unseal(place, body)
