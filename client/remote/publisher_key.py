"""The publisher's public key, Ed25519 as PEM: only what it signed is trusted."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from transfer.errors import UsageError
from transfer.files.text import decoded


def parsed(pem: bytes) -> Ed25519PublicKey:
    """Read the key in `pem`.

    Raises:
        ValueError: `pem` is not a PEM public key, or not an Ed25519 one; the text says which.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")  # noqa: TRY004 -- of the content, not of what was passed
    return key


def load(path: Path) -> Ed25519PublicKey:
    """Read the key from a coordinator's publisher.pub.

    Raises:
        UsageError: the file is missing, or not an Ed25519 public key.
    """
    try:
        return parsed(decoded(path.read_bytes()).encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot read the publisher's key: {error.strerror}") from error
    except ValueError as error:  # a NotTextError is one
        raise UsageError(f"{path}: {error}") from error
