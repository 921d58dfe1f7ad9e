"""The cache is the user's, by everything that a finding depends on, and never stands in the way."""

from pathlib import Path

import pytest

from transfer.files.user_cache import keep, place_of


def test_what_is_kept_is_found_by_what_it_is_about_and_by_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep(place_of(("a", 1)), b"found")
    assert place_of(("a", 1)).read_bytes() == b"found"
    assert place_of(("a", 1)).parent == tmp_path / "promptferry"
    assert not any(place_of(other).exists() for other in (("a", "1"), ("a", 2), "a"))


def test_without_a_variable_it_is_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place_of("a").parent == tmp_path / ".cache" / "promptferry"


def test_a_cache_that_cannot_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep(place_of("a"), b"found")
    assert not place_of("a").exists()
