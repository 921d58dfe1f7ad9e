"""A client's directory, data, secret and ledger head may have any name a file can have."""

import os
from pathlib import Path

import pytest

from client.home import custody
from client.home import settings as config
from client.home.directory import make
from client.ledger.ledger import Ledger
from transfer.errors import ConfigError
from transfer.files.atomic import remove_drafts, write_new
from transfer.files.toml import at_home

ODD = "-what? now%41#[0-9]*[b]'\"\\\n\tä\u3000&?mode=memory"


def test_a_client_keeps_everything_where_it_was_told(tmp_path: Path) -> None:
    home, data = tmp_path / ODD, tmp_path / f"{ODD}.csv"
    data.write_text("text,label\nfine,0\n")
    write_new(tmp_path / f"secret {ODD}", b"a passphrase of words")
    given = {
        ("client", "name"): "a", ("client", "secret"): str(tmp_path / f"secret {ODD}"),
        ("client", "ledger_head"): str(tmp_path / f"head {ODD}"), ("data", "path"): str(data),
        ("policy", "max_epsilon"): 8.0,
    }  # fmt: skip
    make(home, given)
    before = sorted(path.name for path in tmp_path.iterdir())
    settings = config.read(home)
    assert settings.data.path == data
    with Ledger.open(custody.load(settings).ledger) as ledger:
        assert ledger.data_set([b"f" * 32])
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert before == sorted([ODD, f"{ODD}.csv", f"head {ODD}", f"secret {ODD}"])


def test_drafts_are_removed_beside_a_file_of_any_name(tmp_path: Path) -> None:
    for name in (ODD, "[a-z]"):
        draft = tmp_path / f".{name}.0123abcd"
        draft.touch()
        (tmp_path / ".b.0123abcd").touch()
        remove_drafts(tmp_path / name)
        assert not draft.exists()
        assert (tmp_path / ".b.0123abcd").exists()


def test_a_path_that_is_not_unicode_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"a\xff.csv")
    data.write_text("text,label\nfine,0\n")
    given = {("client", "name"): "a", ("data", "path"): str(data), ("policy", "max_epsilon"): 8.0}
    with pytest.raises(ConfigError, match="is not Unicode: rename that file"):
        make(tmp_path / "a", given)


def test_a_tilde_is_a_home_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home(Path("~/a")) == tmp_path / "a"
    assert at_home(Path("~nobody-of-that-name/a")) == Path("~nobody-of-that-name/a")


def test_a_path_with_a_nul_in_the_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\nfine,0\n")
    given = {
        ("client", "name"): "a",
        ("data", "path"): str(tmp_path / "x.csv"),
        ("policy", "max_epsilon"): 8.0,
    }
    make(tmp_path / "a", given)
    file = tmp_path / "a" / config.FILE
    file.write_text(file.read_text().replace("x.csv", "x\\u0000.csv"))
    with pytest.raises(ConfigError, match="cannot hold a NUL"):
        config.read(tmp_path / "a")
