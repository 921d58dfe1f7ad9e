"""A ledger sealed anew shows nothing of what was, and none of its writes is the wrong one to be killed at."""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from client.home import custody
from client.ledger import reseal as resealing
from client.ledger.ledger import Ledger
from tests.client.home.sealing import FREE, REPLIES, UNLIMITED, Home, copy
from transfer.errors import UsageError


def test_no_free_page_of_a_long_ledger_shows_what_was(plain: Home, tmp_path: Path):
    home = copy(plain, tmp_path)
    with Ledger.open(home.place(None)) as ledger:
        [data_set] = ledger.data_sets()
        for number in range(40):
            ledger.reserve(data_set, f"campaigns/long/rounds/{number}", FREE, UNLIMITED)
            ledger.store_reply(f"campaigns/long/rounds/{number}", REPLIES[0] * 300)
    custody.reseal(home.settings(None), home.old)
    assert home.shown(home.old) == set()
    ciphertexts = stored(home)
    custody.reseal(home.settings(home.old), None)
    every = b"".join(path.read_bytes() for path in home.directory.rglob("*") if path.is_file())
    assert not [old for old in ciphertexts if old[:40] in every or old[-40:] in every]


@pytest.mark.slow
def test_sealing_again_makes_a_new_key_each_time_and_the_old_secret_opens_nothing(
    sealed: Home, tmp_path: Path
):
    home = copy(sealed, tmp_path)
    before = home.contents(home.old)
    ciphertexts = stored(home)
    assert custody.reseal(home.settings(home.old), None) == 2
    assert custody.reseal(home.settings(home.old), home.new) == 3
    assert home.contents(home.new) == before
    assert ciphertexts.isdisjoint(stored(home))
    every = b"".join(path.read_bytes() for path in home.directory.rglob("*") if path.is_file())
    assert not [old for old in ciphertexts if old in every]
    with pytest.raises(UsageError, match="the secret does not open it"):
        home.contents(home.old)
    with pytest.raises(UsageError, match="the secret does not open it"):
        custody.reseal(home.settings(home.old), None)
    assert custody.reseal(home.settings(home.old), home.new) == 4


def stored(home: Home) -> set[bytes]:
    """Everything sealed as it lies in the database and in the key files."""
    database = sqlite3.connect(home.directory / "ledger.db")
    cells = "SELECT row FROM chain UNION ALL SELECT reply FROM replies UNION ALL SELECT key FROM identity"
    found = {row[0] for row in database.execute(cells)}
    database.close()
    return found | {path.read_bytes() for path in (home.directory / "keys").iterdir()}


def killed_before_write(number: int, work: Callable[[], object]) -> int:
    """Kills a child as it is about to write for the `number`-th time: sync or swap a file, or change the ledger."""

    def count(frame, event, called):
        nonlocal number
        if event == "c_call":
            statement = called.__name__ == "execute" and frame.f_code.co_filename == resealing.__file__
            number -= statement or called in (os.fsync, os.replace)
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            sys.setprofile(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_writes(before: Home, root: Path, first: Path | None, step: int) -> int:
    """Kills sealing before every `step`-th of its writes, looks, and does it again; returns how many it killed."""
    expected = before.contents(first)
    for kills, number in enumerate(range(1, 1000, step)):
        home = copy(before, root / str(number))
        secret = first and home.old
        ended = killed_before_write(number, partial(custody.reseal, home.settings(secret), home.new))
        in_use = secret or (home.new if home.settings(None).vault_file.exists() else None)
        assert expected in (contents_or_none(home, in_use), contents_or_none(home, home.new)), number
        if ended == 0:
            return kills
        assert ended == -signal.SIGKILL
        custody.reseal(home.settings(secret), home.new)
        assert home.contents(home.new) == expected
        assert home.shown(home.new) == set()
        assert not list(home.directory.rglob(".*")), "a draft was left behind"
        if secret:
            with pytest.raises(UsageError, match="does not open it"):
                home.contents(secret)
    raise AssertionError("the work never ended")


def contents_or_none(home: Home, secret: Path | None) -> tuple[object, ...] | None:
    try:
        return home.contents(secret)
    except UsageError:
        return None


EVERY = pytest.param(1, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, EVERY])
def test_a_first_sealing_killed_at_its_writes_loses_nothing_and_is_finished_by_a_second(
    plain: Home, tmp_path: Path, step: int
):
    assert kill_at_writes(plain, tmp_path, None, step) >= 36 // step


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, EVERY])
def test_a_rotation_killed_at_its_writes_loses_nothing_and_is_finished_by_a_second(
    sealed: Home, tmp_path: Path, step: int
):
    assert kill_at_writes(sealed, tmp_path, sealed.old, step) >= 36 // step
