"""Distillation beyond the plain recipe: what is frozen, how a step is made up, and going on after an end."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.distillation.lessons import SHORT, TEXTS, drawn, told
from transfer.distillation.distil import distil
from transfer.distillation.exercises import NO_GOAL, exercises
from transfer.distillation.settings import LEAST_TOKENS
from transfer.errors import ModelError
from transfer.tokens.corpus import sequences_of


def test_a_batch_is_read_in_short_passes_without_most_of_its_padding(causal):
    settings = replace(SHORT, batch_tokens=10_000, prompted_share=1.0, prompted_tokens=3)
    texts = [" ".join(["film"] * length) for length in range(8, 24)]
    lines = sequences_of(causal.tokenizer, texts, LEAST_TOKENS, settings.sequence_tokens)
    (part,) = exercises(causal, lines, settings, torch.Generator().manual_seed(0))
    pieces = list(part.pieces(120))
    assert all(piece.mask.numel() <= 120 for piece in pieces)
    assert all(piece.mask.shape[1] == piece.ids.shape[1] + 3 for piece in pieces)
    assert sum(int(piece.mask.sum()) for piece in pieces) == int(part.mask.sum())
    assert sum(piece.mask.numel() for piece in pieces) < 0.92 * part.mask.numel()
    assert torch.equal(torch.cat([piece.goal for piece in pieces]), part.goal)


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
