"""Constant answers over the vocabulary are in a file, in half precision, and lead to the same prompt."""

import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.transfer.distillation.lessons import proxy_of, stirred
from transfer.errors import UsageError
from transfer.models.on_disk import on_disk
from transfer.post import problem, transfer
from transfer.post.settings import TransferSettings

TEXTS = [
    f"The {kind} film was {how}." for kind in ("old", "new", "long") for how in ("good", "bad", "great")
] * 2


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory of its own for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_numbers_are_in_a_file_that_nobody_else_sees(place):
    stored = on_disk(3, 5)
    stored[1] = torch.arange(5) / 3
    assert stored.dtype == torch.float16
    assert stored[[1, 0]].tolist() == [(torch.arange(5) / 3).half().tolist(), [0.0] * 5]
    assert list(place.iterdir()) == []
    if sys.platform == "linux":
        assert f"{place}/" in Path("/proc/self/maps").read_text(), "mapped"


def test_too_little_room_is_an_error_before_anything_is_computed(place):
    with pytest.raises(UsageError, match=r"1000000000 answers over 50000 tokens take 93132\.3 GiB, .*TMPDIR"):
        on_disk(10**9, 50_000)


def carried(target, proxy, task, alpha):
    prompt = proxy.vocabulary_prompt(4, torch.Generator().manual_seed(0))
    settings = TransferSettings(alpha=alpha, steps=6, check_every=2, space="vocabulary", start="text")
    return transfer.transfer(prompt, proxy, target, task, TEXTS, settings)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_prompt_is_that_of_constants_in_memory(causal, tiny_task, place, monkeypatch, alpha):
    target = stirred(causal)
    proxy = proxy_of(target)
    ours = carried(target, proxy, tiny_task, alpha)
    for module in (transfer, problem):
        monkeypatch.setattr(module, "on_disk", torch.empty)
    whole = carried(target, proxy, tiny_task, alpha)
    assert not torch.equal(ours.prompt.vectors, whole.prompt.vectors)
    moved = (whole.prompt.vectors - target.text_prompt("A sentence about a review", 4).vectors).norm()
    assert (ours.prompt.vectors - whole.prompt.vectors).norm() < 0.02 * moved
    assert ours.held_out_loss == pytest.approx(whole.held_out_loss, rel=5e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_tokens_that_a_model_never_tells_stay_so(causal, tiny_task, place, alpha):
    """Some families write the least float32 there, which float16 does not have."""
    target, never = stirred(causal), torch.tensor([390, 399])
    proxy, least = proxy_of(target), torch.finfo(torch.float32).min
    for model in (proxy.model, target.model):
        model.get_output_embeddings().register_forward_hook(
            lambda _module, _inputs, logits: logits.index_fill(-1, never, least)
        )
    found = carried(target, proxy, tiny_task, alpha)
    assert 0 < found.held_out_loss < found.start_loss < 100
