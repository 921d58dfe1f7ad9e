"""Distillation beyond the plain recipe: what is frozen, how a step is made up, and going on after an end."""

import re
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.transfer.distillation.lessons import SHORT, TEXTS, drawn, proxy_of, stirred, told
from transfer.distillation import comparison
from transfer.distillation.distil import DistilSettings, _Distillation, distil
from transfer.distillation.exercises import NO_GOAL, exercises, sequences_of
from transfer.errors import ModelError


@pytest.mark.parametrize(("block", "strip"), [(1, 1), (5 * 400, 2 * 400), (10**9, 10**9)])
def test_the_loss_is_five_parts_kl_two_language_model_and_one_cosine(model, block, strip, monkeypatch):
    """POST eq. 1 at temperature 2, by plain forward passes of the whole models; gradients too, in any blocks."""
    monkeypatch.setattr(comparison, "CPU_BLOCK", block)
    monkeypatch.setattr(comparison, "CPU_STRIP", strip)
    settings = DistilSettings(batch_tokens=10_000, sequence_tokens=24)
    target, proxy = stirred(model), proxy_of(model)
    (part,) = drawn(target, settings)
    learnt = list(proxy.model.requires_grad_(True).parameters())
    terms = _Distillation(target, proxy, settings).learn([part])
    gradient = [weight.grad for weight in learnt]
    passes = [
        each.model(input_ids=part.ids, attention_mask=part.mask, output_hidden_states=True)
        for each in (target, proxy)
    ]
    theirs, ours = (out.logits[part.rows, part.columns] for out in passes)
    p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
    kl = 4 * (p * (p / q).log()).sum(-1).mean()
    chances = ours.softmax(-1).gather(1, part.goal.unsqueeze(1))
    states = [out.hidden_states[-1][part.mask.bool()] for out in passes]
    apart = 1 - torch.cosine_similarity(*states, dim=-1)
    expected = torch.stack([kl, -chances.log().mean(), apart.mean()])
    torch.testing.assert_close(terms, expected.detach(), rtol=1e-4, atol=1e-5)
    plain = torch.autograd.grad(expected @ torch.tensor([5.0, 2.0, 1.0]), learnt, allow_unused=True)
    pairs = [(one, other) for one, other in zip(gradient, plain, strict=True) if other is not None]
    longest = max(float(other.abs().max()) for _, other in pairs)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * longest)


def test_a_batch_is_read_in_short_passes_without_most_of_its_padding(causal):
    settings = replace(SHORT, batch_tokens=10_000, prompted_share=1.0, prompted_tokens=3)
    texts = [" ".join(["film"] * length) for length in range(8, 24)]
    lines = sequences_of(causal, texts, settings.sequence_tokens)
    (part,) = exercises(causal, lines, settings, torch.Generator().manual_seed(0))
    pieces = list(part.pieces(120))
    assert all(piece.mask.numel() <= 120 for piece in pieces)
    assert all(piece.mask.shape[1] == piece.ids.shape[1] + 3 for piece in pieces)
    assert sum(int(piece.mask.sum()) for piece in pieces) == int(part.mask.sum())
    assert sum(piece.mask.numel() for piece in pieces) < 0.92 * part.mask.numel()
    assert torch.equal(torch.cat([piece.goal for piece in pieces]), part.goal)


def test_logits_are_never_whole(causal):
    """No tensor is as large as the logits of a batch, forwards or backwards."""
    settings = replace(SHORT, batch_tokens=10_000)
    target, proxy = stirred(causal), proxy_of(causal)
    proxy.model.requires_grad_(True)
    (part,) = drawn(target, settings)
    with pytest.MonkeyPatch.context() as patch, Largest() as seen:
        patch.setattr(comparison, "CPU_BLOCK", 50 * 400)
        _Distillation(target, proxy, settings).learn([part])
    assert len(part.rows) > 500
    assert 40 * 400 <= seen.numbers <= 60 * 400


class Largest(TorchDispatchMode):
    """Notes the largest tensor over the vocabulary that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.shape[-1:] == (400,):
                self.numbers = max(self.numbers, each.numel())
        return result


def test_a_masked_models_kl_is_taken_at_the_masked_tokens_or_at_all(masked):
    for few, every in zip(drawn(masked, SHORT), drawn(masked, replace(SHORT, kl_at="all")), strict=True):
        assert len(every.rows) == int(every.mask.sum()) > len(few.rows)
        restorable = every.restorable
        assert torch.equal(every.ids, few.ids)
        assert all(
            torch.equal(getattr(restorable, name), getattr(few, name)) for name in ("rows", "columns", "goal")
        )
        assert (every.goal == NO_GOAL).sum() == len(every.rows) - len(few.rows)


def test_proxies_of_both_kinds_of_kl_are_measured_at_the_same_tokens(masked):
    few, every = (distil(masked, (0,), TEXTS, replace(SHORT, steps=0, kl_at=at)) for at in ("masked", "all"))
    assert few.held_out_kl == every.held_out_kl
    trained = distil(masked, (0,), TEXTS, replace(SHORT, kl_at="all"))
    assert trained.target_perplexity == few.target_perplexity


def test_a_prompted_batch_is_read_behind_its_prompt(model):
    settings = replace(SHORT, prompted_share=1.0, prompted_tokens=3)
    exercise = drawn(model, settings)[0]
    states = model.model.base_model(
        inputs_embeds=torch.cat(
            [exercise.prompt.expand(len(exercise.ids), -1, -1), model.embedding[exercise.ids]], dim=1
        ),
        attention_mask=exercise.mask,
    ).last_hidden_state
    logits, kept = told(model, exercise)
    assert kept.shape == (*exercise.ids.shape[:1], exercise.ids.shape[1] + 3, model.width)
    assert torch.allclose(kept, states, atol=1e-5)
    moved = exercise.ids[exercise.rows, exercise.columns - 3 + model.causal]
    if model.causal:
        assert torch.equal(moved, exercise.goal)
    else:
        mask_id = model.tokenizer.mask_token_id
        assert (moved == mask_id).float().mean() > 0.5
        assert not (exercise.ids[exercise.rows, exercise.columns - 4] == mask_id).all()
    bare, _ = told(
        model,
        replace(
            exercise, mask=exercise.mask[:, 3:], columns=exercise.columns - 3, prompt=exercise.prompt[:0]
        ),
    )
    assert not torch.allclose(logits, bare, atol=1e-4)


def test_prompts_are_rows_of_the_embedding_fresh_for_each_batch_of_the_share(model):
    half = drawn(model, replace(SHORT, prompted_share=0.5, batch_tokens=64))
    prompts = [exercise.prompt for exercise in half if len(exercise.prompt)]
    assert 0 < len(prompts) < len(half)
    assert all((row == model.embedding).all(dim=1).any() for prompt in prompts for row in prompt)
    assert not torch.equal(prompts[0], prompts[1])
    assert not any(len(exercise.prompt) for exercise in drawn(model, SHORT))


def test_a_prompt_that_does_not_fit_the_positions_is_refused(causal):
    settings = replace(SHORT, prompted_share=0.1, prompted_tokens=120)
    with pytest.raises(ModelError, match=r"128 positions, prompt and line need 1.*lower sequence_tokens"):
        distil(causal, (0,), TEXTS, settings)


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
