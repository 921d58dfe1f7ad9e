"""A ledger's file is durable where it is, or not opened."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from client.ledger import chain
from client.ledger.ledger import Ledger
from tests.client.ledger.forgeries import NAME
from tests.client.ledgers import at
from transfer.errors import LedgerError


def test_connecting_makes_no_file(tmp_path: Path):
    with pytest.raises(sqlite3.OperationalError):
        chain.connect(tmp_path / NAME)
    assert not list(tmp_path.iterdir())


@pytest.mark.promise("power-loss")
def test_an_open_ledger_is_in_wal_mode_with_full_synchronisation(path: Path):
    with Ledger.open(at(path)) as ledger:
        connection = ledger._file._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.promise("power-loss")
@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda c: c.execute("PRAGMA synchronous = NORMAL"), "SQLite synchronous is 1, must be 2"),
        (lambda c: c.execute("PRAGMA synchronous = OFF"), "SQLite synchronous is 0, must be 2"),
        (lambda c: c.execute("PRAGMA journal_mode = DELETE"), "SQLite journal_mode is delete, must be wal"),
    ],
)
def test_a_connection_that_may_lose_commits_is_refused(
    path: Path, prepare: Callable[[object], object], message: str
):
    connection = chain.connect(path)
    prepare(connection)
    with pytest.raises(LedgerError, match=message):
        chain.require_durable(connection, path)
    connection.close()


@pytest.mark.promise("power-loss")
def test_a_ledger_is_opened_only_by_asking_sqlite_what_it_does(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chain, "_FULL", 3)
    with pytest.raises(
        LedgerError, match="SQLite synchronous is 2, must be 3: put the ledger on a local disk"
    ):
        Ledger.open(at(path))
