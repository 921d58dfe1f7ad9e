"""The weights a distillation moves, and those it leaves."""

import re
from dataclasses import replace

import pytest
import torch

from tests.transfer.distillation.lessons import SHORT, TEXTS, drawn, proxy_of, same, stirred, weights
from transfer.distillation.distil import _Distillation, distil, make
from transfer.distillation.proxy import Proxy, cut


def rows_of(exercise, low, high):
    """The part of an exercise that its sequences from `low` to `high` are."""
    chosen = (exercise.rows >= low) & (exercise.rows < high)
    return replace(
        exercise,
        ids=exercise.ids[low:high],
        mask=exercise.mask[low:high],
        rows=exercise.rows[chosen] - low,
        columns=exercise.columns[chosen],
        goal=exercise.goal[chosen],
    )


def gradient(run, parts):
    run.proxy.model.requires_grad_(True)
    run.proxy.model.zero_grad()
    run.learn(parts)
    return torch.cat([weight.grad.flatten() for weight in run.proxy.model.parameters()])


@pytest.mark.parametrize("kl_at", ["masked", "all"])
def test_accumulated_batches_have_the_gradient_of_one_large_batch(model, kl_at):
    settings = replace(SHORT, batch_tokens=10_000, kl_at=kl_at, masked_share=0.4)
    run = _Distillation(model, proxy_of(model), settings)
    (whole,) = drawn(model, settings)
    parts = [rows_of(whole, 0, 7), rows_of(whole, 7, 11), rows_of(whole, 11, len(whole.ids))]
    assert len({len(part.rows) for part in parts}) > 1
    expected, ours = gradient(run, [whole]), gradient(run, parts)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max()))
    halves = sum(gradient(run, [part]) for part in parts) / len(parts)
    assert not torch.allclose(halves, expected, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("kind", "freeze", "moved"),
    [
        ("causal", (), {"embeddings", "head"}),
        ("causal", ("embeddings",), {"head"}),
        ("causal", ("head",), {"embeddings"}),
        ("causal", ("embeddings", "head"), set()),
        ("gpt2", (), {"embeddings", "head"}),
        ("gpt2", ("embeddings",), set()),
        ("gpt2", ("head",), set()),
        ("masked", ("embeddings",), set()),
        ("masked", (), {"embeddings", "head"}),
    ],
)
def test_frozen_parts_stay_and_one_tensor_is_frozen_with_either_of_its_names(kind, freeze, moved, request):
    target = stirred(request.getfixturevalue(kind))
    raw = cut(target, (0,))
    made = distil(target, (0,), TEXTS, replace(SHORT, freeze=freeze)).model.model
    sides = {"embeddings": "get_input_embeddings", "head": "get_output_embeddings"}
    before = {name: getattr(raw, side)().weight for name, side in sides.items()}
    after = {name: getattr(made, side)().weight for name, side in sides.items()}
    assert {name for name in sides if not torch.equal(before[name], after[name])} == moved
    assert (after["embeddings"] is after["head"]) == (before["embeddings"] is before["head"])


def test_a_trained_tied_head_is_saved_and_loaded_tied(gpt2, tmp_path):
    made = make(stirred(gpt2), (0,), TEXTS, replace(SHORT, freeze=()), tmp_path / "proxy")
    read = Proxy.load(tmp_path / "proxy", name=made.model.ref.name)
    assert same(read, made)
    assert read.model.model.get_output_embeddings().weight is read.model.embedding


def test_bf16_learns_like_float32_and_leaves_float32_weights(model):
    stirred(model)
    full, reduced = (
        distil(model, (0,), TEXTS, replace(SHORT, precision=kind)) for kind in ("float32", "bf16")
    )
    assert not same(full, reduced)
    assert reduced.held_out_kl == pytest.approx(full.held_out_kl, rel=0.05)
    assert {value.dtype for value in weights(reduced).values()} == {torch.float32}


def test_each_measurement_is_logged_with_speed_and_time_left(causal, caplog):
    with caplog.at_level("INFO", "transfer.distillation"):
        proxy = distil(stirred(causal), (0,), TEXTS, SHORT)
    lines = [
        re.fullmatch(r"step (\d) of 6: held-out KL (.*) nats, (\d+) tokens a second, at most (.*) left", line)
        for line in caplog.messages
    ]
    assert [line[1] for line in lines] == ["3", "6"]
    assert min(float(line[2]) for line in lines) == pytest.approx(proxy.held_out_kl, abs=1e-3)
    assert all(int(line[3]) > 0 for line in lines)
    assert lines[1][4] == "0:00:00"
