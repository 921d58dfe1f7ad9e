import os
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from transfer.errors import AlreadyExistsError, ConfigError, PromptferryError, UsageError


def test_private_files_are_their_owners_alone(paths: PkiPaths) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in astuple(paths)}

    private = {"ca.key", "server.key", "publisher.key", "secret"}
    assert {name for name, mode in modes.items() if mode == 0o600} >= private
    assert all(mode & 0o022 == 0 for mode in modes.values())
    assert {path.name for path in paths.ca.parent.iterdir()} == {
        "ca.pem",
        "ca.key",
        "server.pem",
        "server.key",
    }


def test_the_publishers_halves_belong_together(paths: PkiPaths) -> None:
    key = pki.load_publisher(paths.publisher_key)
    assert load_pem_public_key(paths.publisher_public_key.read_bytes()) == key.public_key()
    assert len(pki.load_secret(paths.secret)) == 32


@pytest.mark.parametrize("name", ["ca", "ca_key", "key", "publisher_key", "publisher_public_key", "secret"])
def test_nothing_is_overwritten_and_nothing_new_is_made(tmp_path: Path, name: str) -> None:
    paths = PkiPaths.under(tmp_path)
    existing: Path = getattr(paths, name)
    existing.parent.mkdir(exist_ok=True)
    existing.write_text("mine")

    with pytest.raises(AlreadyExistsError, match=f"{existing.name} exists already"):
        pki.create(paths)
    assert [path for path in astuple(paths) if path.exists()] == [existing]
    assert existing.read_text() == "mine"


def test_a_failure_in_between_leaves_no_half_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    paths = replace(PkiPaths.under(tmp_path), secret=tmp_path / "file" / "secret")

    with pytest.raises(UsageError, match="cannot make keys"):
        pki.create(paths)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "file"]


@pytest.mark.parametrize("name", ["publisher_key", "secret", "key"])
@pytest.mark.parametrize("damage", ["missing", "open", "garbage"])
def test_an_unusable_key_is_one_line_that_names_the_file(paths: PkiPaths, name: str, damage: str) -> None:
    path: Path = getattr(paths, name)
    if damage == "missing":
        path.unlink()
    elif damage == "open":
        path.chmod(0o640)
    else:
        path.write_text("garbage")
    load = {
        "publisher_key": lambda: pki.load_publisher(path),
        "secret": lambda: pki.load_secret(path),
        "key": lambda: pki.load_server(paths),
    }[name]

    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert damage != "open" or f"chmod 600 {path}" in str(caught.value)


def test_a_certificate_of_another_key_is_refused(paths: PkiPaths, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    with pytest.raises(ConfigError, match="not the ECDSA key of the certificate"):
        pki.load_server(replace(paths, key=other.key))
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        pki.load_server(replace(paths, certificate=other.secret))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptferryError, match=os.fspath(tmp_path)):
        pki.create(PkiPaths.under(tmp_path / "file" / "x"))
