"""One process at a time in a client's directory, and the next one as soon as it ends."""

import os
from pathlib import Path

import pytest

from client.home.lock import locked
from transfer.errors import UnavailableError, UsageError


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(UnavailableError, match=rf"process {os.getpid()}\); stop it first"),
        locked(tmp_path / "lock"),
    ):
        pytest.fail("two hold one lock")


def test_a_lock_is_free_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "lock"):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*/none/lock"), locked(tmp_path / "none" / "lock"):
        pytest.fail("locked what is not there")
