"""Keys are made once, whole, for their owner's eyes only."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from client.vault import keys
from transfer.errors import AlreadyExistsError, UsageError
from transfer.files.atomic import replace, write_new
from transfer.protocol.signing import key_id

FILES = (keys.SIGNING_FILE, keys.NODE_FILE)


def test_keys_made_are_the_keys_loaded(tmp_path: Path):
    made = keys.create(tmp_path / "state" / "keys")
    loaded = keys.load(tmp_path / "state" / "keys")
    made.signing.public_key().verify(loaded.signing.sign(b"release"), b"release")
    made.node.public_key().verify(loaded.node.sign(b"hello", ECDSA(SHA256())), b"hello", ECDSA(SHA256()))
    assert isinstance(loaded.node.curve, SECP384R1)
    assert made.key_id == loaded.key_id == key_id(made.signing.public_key())


def test_two_owners_have_different_keys(tmp_path: Path):
    assert keys.create(tmp_path / "a").key_id != keys.create(tmp_path / "b").key_id


def test_key_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        keys.create(tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for name in FILES:
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_an_existing_key_is_never_overwritten(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(AlreadyExistsError, match=name):
        keys.create(tmp_path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"precious")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_open_to_others_is_refused_with_the_cure(tmp_path: Path, name: str, mode: int):
    keys.create(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(UsageError, match=f"mode 0{mode:o}.*chmod 600 .*{name}"):
        keys.load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_says_how_to_make_one(tmp_path: Path, name: str):
    keys.create(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=f"no key at .*{name}: `promptferry-client init`"):
        keys.load(tmp_path)


def pem(key, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (keys.SIGNING_FILE, b"nonsense", "not an unencrypted PEM"),
        (keys.SIGNING_FILE, b"", "not an unencrypted PEM"),
        (keys.SIGNING_FILE, pem(Ed25519PrivateKey.generate(), b"secret"), "not an unencrypted PEM"),
        (keys.SIGNING_FILE, pem(generate_private_key(SECP384R1())), "not an Ed25519 private key"),
        (keys.NODE_FILE, pem(generate_rsa(65537, 2048)), "not an elliptic-curve private key"),
        (keys.NODE_FILE, pem(generate_private_key(SECP256R1())), "curve secp256r1"),
    ],
)
def test_a_file_that_holds_no_such_key_is_refused_in_one_line(tmp_path: Path, name, content, message):
    keys.create(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        keys.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_keys_show_only_their_id(tmp_path: Path):
    made = keys.create(tmp_path)
    assert repr(made) == f"Keys(key_id='{made.key_id}')"


def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot make directory"):
        keys.create(tmp_path / "file" / "keys")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot write"):
        write_new(tmp_path / "missing" / "file", b"x")
    write_new(tmp_path / "file", b"first")
    with pytest.raises(AlreadyExistsError, match="never overwritten"):
        write_new(tmp_path / "file", b"second")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"first")]


def test_replacing_a_file_swaps_its_whole_content(tmp_path: Path):
    write_new(tmp_path / "file", b"a long first content")
    replace(tmp_path / "file", b"short")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"short")]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
