"""A ledger is its owner's alone, and never made anew where one was."""

import os
import stat
from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from tests.client.ledger.reservations import contents, register
from tests.client.ledgers import at
from transfer.errors import AlreadyExistsError, LedgerError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_every_file_of_the_ledger_is_for_its_owner_alone_whatever_the_umask(path: Path):
    before = os.umask(0)
    try:
        with Ledger.create(at(path)) as ledger:
            register(ledger, "a")
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)
    suffixes = ("", "-wal", "-shm", ".head")
    assert modes == {path.name + suffix: 0o600 for suffix in suffixes}


def test_a_ledger_others_may_read_is_refused_with_the_cure(path: Path):
    Ledger.create(at(path)).close()
    path.chmod(0o640)
    with pytest.raises(UsageError, match=r"mode 0640.*chmod 600"):
        Ledger.open(at(path))


def test_an_existing_ledger_is_never_made_anew(path: Path):
    with Ledger.create(at(path)) as ledger:
        register(ledger, "a")
    before = contents(path)
    with pytest.raises(AlreadyExistsError):
        Ledger.create(at(path))
    at(path).head.unlink()
    with pytest.raises(AlreadyExistsError, match="exists already"):
        Ledger.create(at(path))
    assert path.read_bytes() == before[path.name]
    assert not at(path).head.exists()


def test_an_existing_ledger_without_entries_keeps_its_head(path: Path):
    Ledger.create(at(path)).close()
    before = contents(path)
    with pytest.raises(AlreadyExistsError):
        Ledger.create(at(path))
    assert contents(path) == before


def test_a_missing_ledger_is_never_taken_for_an_empty_one(path: Path):
    with pytest.raises(LedgerError, match=r"no ledger at .*`promptferry-client init` makes one"):
        Ledger.open(at(path))
    assert not path.exists()
    with Ledger.create(at(path)) as ledger:
        register(ledger, "a")
    path.unlink()
    with pytest.raises(LedgerError, match=r"no ledger at .*head belongs to one: restore it"):
        Ledger.open(at(path))
    with pytest.raises(AlreadyExistsError, match="head belongs to a ledger"):
        Ledger.create(at(path))
