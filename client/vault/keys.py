"""A data owner's two keys: Ed25519 signs releases, EC P-384 is the node's identity on Flower's transport.

Each file is the key as PEM, sealed if the client's directory is encrypted.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from client.vault.permissions import require_private
from client.vault.seal import NONE, Seal
from client.vault.vault import UNLOCKED, Vault, sealed, unsealed
from transfer.errors import UsageError, VerificationError
from transfer.files.atomic import replace, write_new
from transfer.protocol.signing import key_id

SIGNING_FILE = "signing.pem"
NODE_FILE = "node.pem"


@dataclass(frozen=True, slots=True)
class Keys:
    """The private keys of one data owner; `repr` shows only the key id.

    Attributes:
        signing: signs releases.
        node: proves the node's identity to the SuperLink.
        key_id: SHA-256 of the raw public signing key, hex.
    """

    signing: Ed25519PrivateKey = field(repr=False)
    node: EllipticCurvePrivateKey = field(repr=False)
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.node.curve, SECP384R1):
            raise UsageError(f"node key is on curve {self.node.curve.name}: it must be secp384r1")
        object.__setattr__(self, "key_id", key_id(self.signing.public_key()))


def create(directory: Path, seal: Seal = NONE) -> Keys:
    """Make both keys in `directory`: files with mode 0600, a missing directory with mode 0700.

    Raises:
        AlreadyExistsError: one of the files exists; neither is changed.
        UsageError: the directory cannot be written.
    """
    signing_file, node_file = directory / SIGNING_FILE, directory / NODE_FILE
    keys = Keys(Ed25519PrivateKey.generate(), generate_private_key(SECP384R1()))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make directory {directory}: {error.strerror}") from error
    write_new(signing_file, _content(signing_file, keys.signing, seal))
    try:
        write_new(node_file, _content(node_file, keys.node, seal))
    except BaseException:
        signing_file.unlink()  # half a pair could be neither loaded nor made again
        raise
    return keys


def reseal(directory: Path, keys: Keys, seal: Seal) -> None:
    """Put both files under another seal."""
    for path, key in ((directory / SIGNING_FILE, keys.signing), (directory / NODE_FILE, keys.node)):
        replace(path, _content(path, key, seal))


def load(directory: Path, vault: Vault = UNLOCKED) -> Keys:
    """Read what `create` made.

    Raises:
        UsageError: a file is missing, open to others, or not a key of its kind.
        VerificationError: the vault cannot unseal a file, or a file that must be sealed is not.
    """
    signing, node = _read(directory / SIGNING_FILE, vault), _read(directory / NODE_FILE, vault)
    if not isinstance(signing, Ed25519PrivateKey):
        raise UsageError(f"{directory / SIGNING_FILE} is not an Ed25519 private key")
    if not isinstance(node, EllipticCurvePrivateKey):
        raise UsageError(f"{directory / NODE_FILE} is not an elliptic-curve private key")
    return Keys(signing, node)


def _content(path: Path, key: Ed25519PrivateKey | EllipticCurvePrivateKey, seal: Seal) -> bytes:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return sealed(f"keys/{path.name}", pem, seal)


def _unsealed(path: Path, content: bytes, vault: Vault) -> bytes:
    try:
        return unsealed(f"keys/{path.name}", content, vault)
    except VerificationError as error:
        raise VerificationError(f"{path} cannot be trusted: {error}: restore it") from error


def _read(path: Path, vault: Vault) -> object:
    try:
        with path.open("rb") as file:
            require_private(path, os.fstat(file.fileno()).st_mode)
            return load_pem_private_key(_unsealed(path, file.read(), vault), password=None)
    except FileNotFoundError as error:
        raise UsageError(f"no key at {path}: `promptferry-client init` makes one") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is not an unencrypted PEM private key") from error
