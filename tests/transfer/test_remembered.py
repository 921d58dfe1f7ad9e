"""What is remembered is what was found, of the very thing that is asked about, or it is found again."""

import os
from pathlib import Path

import pytest

from transfer.errors import ModelError
from transfer.remembered import remembered


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "promptferry"


def found(value: object, times: list[object]) -> object:
    times.append(value)
    return value


def test_the_same_question_is_answered_once_and_another_anew(cache: Path) -> None:
    times: list[object] = []
    for about in ("a", "a", "b", ("a",)):
        assert remembered(about, lambda: found([1, "x"], times)) == [1, "x"]
    assert len(times) == 3
    assert len(list(cache.iterdir())) == 3


def test_a_failure_is_not_remembered(cache: Path) -> None:
    def fails() -> object:
        raise ModelError("no")

    with pytest.raises(ModelError):
        remembered("a", fails)
    assert remembered("a", lambda: True) is True


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_broken_file_is_found_out_again_and_mended(cache: Path, content: bytes) -> None:
    remembered("a", lambda: 1)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert remembered("a", lambda: 2) == 2
    assert remembered("a", lambda: 3) == 2


def test_without_a_cache_everything_is_found_out_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
    assert [remembered("a", lambda value=value: value) for value in (1, 2)] == [1, 2]
