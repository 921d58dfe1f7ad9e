"""The publisher's key is an Ed25519 key as PEM, or refused in one line."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.remote.publisher_key import load
from transfer.errors import UsageError


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_the_key_in_the_file_is_the_key(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "publisher.pub").write_bytes(pem(key))
    assert load(tmp_path / "publisher.pub").public_bytes_raw() == key.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pem(ec.generate_private_key(ec.SECP384R1())), "not an Ed25519 public key"),
        (b"ssh-ed25519 AAAA", "not a PEM public key"),
        (None, "cannot read the publisher's key"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "publisher.pub").write_bytes(content)
    with pytest.raises(UsageError, match=f"publisher.pub: {why}"):
        load(tmp_path / "publisher.pub")
