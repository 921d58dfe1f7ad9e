"""A large file is read once, and again as soon as it may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from transfer.files import digests
from transfer.files.digests import sha256_of


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that settled, large enough to be kept."""
    monkeypatch.setattr(digests, "LEAST_BYTES", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    settle(path)
    return path


def settle(path: Path) -> None:
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, reading a file for its digest fails."""
    monkeypatch.setattr(digests, "_read", lambda _path: pytest.fail("the file was read again"))


def test_the_second_digest_reads_nothing(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = hashlib.sha256(b"weights").hexdigest()
    assert sha256_of(weights) == wanted
    unread(monkeypatch)
    assert sha256_of(weights) == wanted


def test_another_time_size_or_file_is_read_again(weights: Path) -> None:
    sha256_of(weights)
    weights.write_bytes(b"WEIGHTS")
    assert sha256_of(weights) == hashlib.sha256(b"WEIGHTS").hexdigest()
    settle(weights)  # the time is the first file's again, not its change time
    assert sha256_of(weights) == hashlib.sha256(b"WEIGHTS").hexdigest()


def test_what_was_kept_is_not_asked_where_it_must_be_fresh(weights: Path) -> None:
    sha256_of(weights)
    (kept,) = weights.parent.joinpath("cache", "promptferry").iterdir()
    kept.write_text("0" * 64)
    assert sha256_of(weights) == "0" * 64
    assert sha256_of(weights, fresh=True) == hashlib.sha256(b"weights").hexdigest()
    assert sha256_of(weights) == hashlib.sha256(b"weights").hexdigest()


def test_a_file_that_just_changed_is_not_kept(weights: Path) -> None:
    weights.write_bytes(b"changing")
    sha256_of(weights)
    assert not list(weights.parent.glob("cache/promptferry/*"))


@pytest.mark.parametrize("damage", ["", "not a digest"])
def test_a_damaged_record_is_ignored(weights: Path, damage: str) -> None:
    sha256_of(weights)
    (kept,) = weights.parent.joinpath("cache", "promptferry").iterdir()
    kept.write_text(damage)
    assert sha256_of(weights) == hashlib.sha256(b"weights").hexdigest()
