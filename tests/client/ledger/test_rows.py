"""A ledger is kept in the words and digests it always was: from others no ledger that is in use would open."""

import hashlib
import json
import re
import sqlite3
from pathlib import Path

import pytest

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from tests.client.ledger.reservations import UNIT, UNLIMITED, register

COST = {"noise_multiplier": 0.05, "sample_rate": 1.0, "steps": 1, "unit": "record"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_each_kind_of_entry_is_a_row_of_these_words(ledger: Ledger, path: Path):
    first, second = register(ledger, "a", "b"), register(ledger, "c")
    ledger.reserve(first, "r1", UNIT, UNLIMITED, "request")
    ledger.stop("r1")
    ledger.reserve(first, "r1", UNIT, UNLIMITED, "request")
    ledger.store_reply("r1", b"reply")
    ledger.reserve(second, "r2", UNIT, UNLIMITED)
    register(ledger, "a", "c")
    ledger.decline(Declined("r3", "policy", "no"))

    def records(*texts: str) -> str:
        return hashlib.sha256(b"".join(sorted(map(ledger.fingerprint, texts)))).hexdigest()

    rows = stored(path)
    named = ("kind", "data_set", "subject", "content")
    assert [tuple(row.pop(name) for name in named) for row in rows] == [
        ("records", first, "", records("a", "b")),
        ("records", second, "", records("c")),
        ("spend", first, "r1", "request"),
        ("stop", first, "r1", "request"),
        ("again", first, "r1", ""),
        ("reply", first, "r1", hashlib.sha256(b"reply").hexdigest()),
        ("spend", second, "r2", ""),
        ("merge", first, second, ""),
        ("decline", "", "r3", ""),
    ]
    assert rows == [{}, {}, COST, {}, {}, {}, COST, {}, {"refusal": "policy", "why": "no"}]


def stored(path: Path) -> list[dict[str, object]]:
    """The rows of a ledger without what chains them and without their time, which is in whole seconds of UTC."""
    database = sqlite3.connect(path)
    rows = [json.loads(row) for (row,) in database.execute("SELECT row FROM chain ORDER BY number")]
    database.close()
    for number, row in enumerate(rows, 1):
        assert row.pop("number") == number
        assert len(row.pop("previous")) == 64
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row.pop("time"))
    return rows
