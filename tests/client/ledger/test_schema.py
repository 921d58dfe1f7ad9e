"""What is no ledger of this form is refused in one line."""

import sqlite3
from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from tests.client.ledger.reservations import UNIT
from tests.client.ledgers import at
from transfer.errors import LedgerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.mark.parametrize(
    "content", [b"", b"not a database, but text of some length" * 40, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_ledger_is_refused_in_one_line(path: Path, content: bytes):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="the ledger cannot be used: ") as refused:
        Ledger.open(at(path))
    assert "\n" not in str(refused.value)


def test_another_kind_of_database_is_refused(path: Path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE rounds (name TEXT)")
    other.close()
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="no such table: identity"):
        Ledger.open(at(path))


def test_a_ledger_made_before_heads_were_signed_is_refused_and_left_as_it_is(path: Path):
    Ledger.create(at(path)).close()
    old = sqlite3.connect(path)
    old.executescript("ALTER TABLE identity DROP COLUMN version; PRAGMA journal_mode = WAL")
    old.close()
    before = path.read_bytes()
    for opening in (Ledger.open, lambda place: Ledger.declare_loss(place, UNIT)):
        with pytest.raises(LedgerError, match=r"ledger\.sqlite is a ledger of an older form") as refused:
            opening(at(path))
        assert "`promptferry-client init`" in str(refused.value)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
