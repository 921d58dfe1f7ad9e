"""A vault opens with its secrets alone, and what its keys seal is bound to its place."""

import json
from pathlib import Path

import pytest

from client.vault import vault
from client.vault.seal import NONE, Seal
from client.vault.vault import UNLOCKED, Vault
from tests.client.vault.secrets_at_rest import NEW, OLD
from transfer.errors import UsageError, VerificationError


@pytest.fixture(autouse=True)
def _cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "SCRYPT_N", 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.json"


def file_of(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_vault_opens_with_each_of_its_secrets_and_with_no_other(path: Path):
    made = Vault((NONE, Seal.new(1), Seal.new(2)), (OLD, NEW, NEW))
    made.write(path)
    assert len(json.loads(path.read_text())["slots"]) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in (OLD, NEW):
        opened = vault.read(path, [b"another passphrase", secret])
        assert (opened.seals, opened.secrets) == (made.seals, (secret,))
    assert vault.read(path, [OLD, NEW]).secrets == (OLD, NEW)
    with pytest.raises(UsageError, match=r"vault\.json: the secret does not open it: .*\[client\] secret$"):
        vault.read(path, [b"another passphrase"])


def test_a_vault_holds_no_key_and_no_secret_in_the_clear(path: Path):
    seal = Seal.new(1)
    Vault((seal,), (OLD,)).write(path)
    content = path.read_bytes()
    assert seal.key not in content
    assert seal.key.hex().encode() not in content
    assert OLD not in content
    assert OLD.hex().encode() not in content


def test_a_vault_knows_its_keys_by_version():
    both = Vault((Seal.new(1), Seal.new(2)))
    assert both.newest is both.seal(2)
    with pytest.raises(VerificationError, match=r"^sealed with key 3, which the vault lacks$"):
        both.seal(3)
    with pytest.raises(VerificationError, match=r"^not sealed$"):
        both.seal(0)
    assert UNLOCKED.seal(0) is NONE


@pytest.mark.parametrize("field", ["salt", "n", "keys", "version"])
def test_a_changed_slot_opens_with_nothing(path: Path, field: str):
    Vault((Seal.new(1),), (OLD,)).write(path)
    content = json.loads(path.read_text())
    [slot] = content["slots"]
    key = slot["keys"]["1"]
    match field:
        case "salt":
            slot["salt"] = "00" * 16
        case "n":
            slot["n"] = 3
        case "keys":
            slot["keys"]["1"] = key[:-1] + ("1" if key[-1] == "0" else "0")
        case "version":
            slot["keys"] = {"2": key}
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="does not open it"):
        vault.read(path, [OLD])


@pytest.mark.parametrize(
    "content", ["", "nonsense", "{}", '{"slots": [{"salt": "00"}]}', '{"slots": [], "more": 1}']
)
def test_a_file_that_is_no_vault_is_refused_in_one_line(path: Path, content: str):
    path.write_text(content)
    with pytest.raises(UsageError, match=r"vault\.json is not a vault: restore it") as refused:
        vault.read(path, [OLD])
    assert "\n" not in str(refused.value)


def test_a_vault_that_would_eat_all_memory_is_refused_before_it_does(path: Path):
    Vault((Seal.new(1),), (OLD,)).write(path)
    path.write_text(path.read_text().replace('"n": 2', f'"n": {2**40}'))
    with pytest.raises(UsageError, match="is not a vault"):
        vault.read(path, [OLD])


@pytest.mark.parametrize("content", [b"a passphrase of words", b"a passphrase of words\n", bytes(range(256))])
def test_a_secret_is_the_files_bytes_without_a_line_break_at_the_end(tmp_path: Path, content: bytes):
    assert vault.read_secret(file_of(tmp_path / "secret", content)) == content.removesuffix(b"\n")


def test_a_secret_that_is_missing_short_or_open_to_others_is_refused_in_one_line(tmp_path: Path):
    for path, message in [
        (tmp_path / "none", "cannot read the secret .*none: No such file"),
        (
            file_of(tmp_path / "short", b"123456789012345\n"),
            r"short has 15 bytes, must have 16 or more: `head ",
        ),
        (file_of(tmp_path / "open", b"a passphrase of words", 0o644), r"mode 0644\): chmod 600 .*open"),
    ]:
        with pytest.raises(UsageError, match=message) as refused:
            vault.read_secret(path)
        assert "\n" not in str(refused.value)
