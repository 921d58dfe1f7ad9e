"""What is remembered is what was found, of the very thing that is asked about, or it is found again."""

import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.transfer.kinds import CAUSAL
from transfer.errors import ModelError
from transfer.families.probe_cache import passed, remembered, weights_of


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
        assert remembered(about, lambda: found([1, "x"], times), list) == [1, "x"]
    assert len(times) == 3
    assert len(list(cache.iterdir())) == 3


def test_a_failure_is_not_remembered(cache: Path) -> None:
    def fails() -> object:
        raise ModelError("no")

    with pytest.raises(ModelError):
        remembered("a", fails, passed)
    remembered("a", lambda: True, passed)
    remembered("a", fails, passed)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 200_000])
def test_a_broken_file_is_found_out_again_and_mended(cache: Path, content: bytes) -> None:
    remembered("a", lambda: 1, int)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert remembered("a", lambda: 2, int) == 2
    assert remembered("a", lambda: 3, int) == 2


def test_without_a_cache_everything_is_found_out_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
    assert [remembered("a", lambda value=value: value, int) for value in (1, 2)] == [1, 2]


@pytest.mark.parametrize("content", [b"false", b"1", b"null", b'"true"'])
def test_a_verdict_is_true_or_asked_again(cache: Path, content: bytes) -> None:
    remembered("a", lambda: True, passed)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    times: list[object] = []
    remembered("a", lambda: found(True, times), passed)
    assert times == [True]


def test_weights_tell_models_of_one_layout_apart() -> None:
    first, other = (LlamaForCausalLM(CAUSAL["llama"]) for _ in range(2))
    digests = {weights_of(model, "") for model in (first, other)}
    digests.add(weights_of(first.to(torch.bfloat16), ""))
    with torch.no_grad():
        other.lm_head.weight[3, 3] = float("nan")
    digests.add(weights_of(other, ""))
    assert len(digests) == 4
    assert weights_of(other, "") in digests
