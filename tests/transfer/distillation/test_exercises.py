"""Distillation without an LM head: which texts of a batch are alike stands where logits of words did."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tests.transfer.distillation.lessons import SHORT, TEXTS, drawn, proxy_of, same, stirred, told
from tests.transfer.distillation.test_checkpoint import EVERYTHING, PowerCut, interrupted_at
from transfer.distillation.distil import _Distillation, distil, make
from transfer.distillation.proxy import Proxy, read_record
from transfer.distillation.training_state import TrainingState
from transfer.errors import ModelError
from transfer.models.objectives import LIKENESS, divergence, relations
from transfer.post.evaluation import class_logits
from transfer.prompt import SoftPrompt

LONG = replace(SHORT, steps=60, batch_tokens=512, check_every=10)
BRIEF = replace(LONG, steps=20)
"""Enough to bring the tiny backbone closer. The tiny encoder's texts are so alike that it is left to chance."""


def test_relations_are_scaled_cosines_to_every_other_text():
    pooled = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    found = relations(pooled)
    assert found.shape == (4, 3)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        expected = cosine_similarity(pooled[i : i + 1], pooled[others]) / LIKENESS
        torch.testing.assert_close(found[i], expected)
    torch.testing.assert_close(relations(3 * pooled), found)


def test_a_text_alone_is_like_no_other():
    one = relations(torch.ones(1, 7))
    assert one.shape == (1, 0)
    assert divergence(one, one, 2.0) == 0


def test_nothing_is_hidden_from_a_model_that_tells_no_tokens(headless):
    for exercise in drawn(headless, SHORT):
        assert torch.equal(exercise.ids[exercise.rows, exercise.columns], exercise.goal)
        assert len(exercise.rows) == int(exercise.mask.sum())


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_texts_are_compared_by_the_mean_state_of_their_own_tokens(headless, share):
    settings = replace(SHORT, prompted_share=share, prompted_tokens=3)
    exercise = drawn(headless, settings)[0]
    own = len(exercise.prompt)
    assert own == 3 * share
    means = []
    for ids, mask in zip(exercise.ids, exercise.mask[:, own:], strict=True):
        embeds = torch.cat([exercise.prompt, headless.embedding[ids[mask.bool()]]]).unsqueeze(0)
        means.append(headless.model(inputs_embeds=embeds).last_hidden_state[0, own:].mean(dim=0))
    logits, states = told(headless, exercise)
    torch.testing.assert_close(logits, relations(torch.stack(means)), atol=1e-4, rtol=0)
    assert states.shape == (len(exercise.ids), own + exercise.ids.shape[1], 32)


def test_the_terms_are_relations_nothing_and_cosine(headless):
    run = _Distillation(stirred(headless), proxy_of(headless), SHORT)
    exercise = drawn(headless, SHORT)[0]
    (reference, theirs), (logits, ours) = (told(model, exercise) for model in (run.target, run.proxy))
    kept = exercise.mask.bool()
    run.proxy.model.requires_grad_(True)
    kl, word, distance = run.learn([exercise])
    assert kl.item() == pytest.approx(divergence(reference, logits, 2.0).item())
    assert kl > 0
    assert word == 0
    assert distance.item() == pytest.approx(
        1 - cosine_similarity(theirs[kept], ours[kept]).mean().item(), rel=1e-3
    )


def test_accumulated_batches_count_by_their_texts_and_tokens(headless):
    run = _Distillation(stirred(headless), proxy_of(headless), replace(SHORT, batch_tokens=300))
    parts = drawn(headless, run.settings)[:3]
    assert len({len(part.ids) for part in parts}) > 1
    texts, tokens = (torch.tensor(sizes) for sizes in zip(
        *((len(part.ids), part.mask.sum()) for part in parts), strict=True
    ))  # fmt: skip
    run.proxy.model.requires_grad_(True)
    terms = torch.stack([run.learn([part]) for part in parts])
    kl, _, distance = run.learn(parts)
    torch.testing.assert_close(kl, (terms[:, 0] * texts).sum() / texts.sum())
    torch.testing.assert_close(distance, (terms[:, 2] * tokens).sum() / tokens.sum())


def test_distillation_brings_the_proxy_closer_on_text_it_has_not_seen(backbone):
    stirred(backbone)
    undistilled = distil(backbone, (0,), TEXTS, replace(LONG, steps=0))
    proxy = distil(backbone, (0,), TEXTS, LONG)
    assert proxy.held_out_kl < 0.8 * undistilled.held_out_kl
    assert proxy.model.lm_head == "none"
    assert (proxy.held_out_perplexity, proxy.target_perplexity) == (None, None)


def test_relations_alone_teach(backbone):
    stirred(backbone)
    undistilled = distil(backbone, (0,), TEXTS, replace(LONG, steps=0))
    alone = distil(backbone, (0,), TEXTS, replace(LONG, weights=(5.0, 0.0, 0.0)))
    assert alone.held_out_kl < 0.8 * undistilled.held_out_kl


def test_a_cut_that_already_agrees_has_no_divergence(encoder):
    assert distil(encoder, (0, 1), TEXTS, replace(SHORT, steps=0)).held_out_kl == pytest.approx(0, abs=1e-5)


def test_enough_texts_are_held_out_to_be_like_each_other(encoder):
    """Of 20 sequences one would be a twentieth, and a text alone is like no other."""
    stirred(encoder)
    assert distil(encoder, (0,), TEXTS[:20], replace(SHORT, steps=0)).held_out_kl > 1e-5


def test_proxies_of_different_recipes_are_measured_in_one_way(encoder):
    stirred(encoder)
    changes = ({}, {"batch_tokens": 30}, {"prompted_share": 1.0}, {"precision": "bf16"}, {"kl_at": "all"})
    found = {
        distil(encoder, (0,), TEXTS, replace(SHORT, steps=0, **change)).held_out_kl for change in changes
    }
    assert len(found) == 1
    assert found.pop() > 1e-5


@pytest.mark.slow
def test_bf16_learns_like_float32(backbone):
    stirred(backbone)
    full, reduced = (
        distil(backbone, (0,), TEXTS, replace(BRIEF, precision=kind)) for kind in ("float32", "bf16")
    )
    assert not same(full, reduced)
    assert reduced.held_out_kl == pytest.approx(full.held_out_kl, rel=0.1)


def test_relations_are_told_in_float32_whatever_the_passes_are_in(backbone):
    exercise = drawn(stirred(backbone), SHORT)[0]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits, states = told(backbone, exercise)
    sums = torch.stack(
        [state[mask.bool()].sum(dim=0) for state, mask in zip(states.float(), exercise.mask, strict=True)]
    )
    torch.testing.assert_close(logits, relations(sums), atol=1e-3, rtol=0)


def test_an_lm_head_that_is_not_there_is_frozen_all_the_same(headless):
    for freeze, moves in ((("embeddings", "head"), False), (("head",), True), ((), True)):
        proxy = proxy_of(headless)
        TrainingState(proxy, replace(SHORT, freeze=freeze))
        assert proxy.embedding.requires_grad == moves
        assert sum(weight.requires_grad for weight in proxy.model.parameters()) > 5


@pytest.mark.slow
def test_an_interrupted_distillation_goes_on_to_the_very_same_proxy(backbone, tmp_path):
    stirred(backbone)
    settings = replace(EVERYTHING, steps=24, batch_tokens=256, check_every=8)
    whole = distil(backbone, (0,), TEXTS, settings)
    assert whole.held_out_kl < distil(backbone, (0,), TEXTS, replace(settings, steps=0)).held_out_kl
    with pytest.raises(PowerCut):
        distil(backbone, (0,), TEXTS, settings, interrupted_at(13), tmp_path / "part")
    torch.rand(7)
    seen = []
    resumed = distil(backbone, (0,), TEXTS, settings, lambda at, _: seen.append(at), tmp_path / "part")
    assert seen == list(range(9, 25))
    assert same(resumed, whole)
    assert resumed.held_out_kl == whole.held_out_kl


def test_distillation_ends_on_a_plateau_with_its_best_state(encoder):
    hopeless = replace(SHORT, steps=1000, learning_rate=1e-12, check_every=2, patience=3)
    assert distil(encoder, (0,), TEXTS, hopeless).steps == 6
    harmful = replace(SHORT, steps=6, learning_rate=50.0, check_every=2)
    undistilled = distil(encoder, (0,), TEXTS, replace(SHORT, steps=0))
    assert distil(encoder, (0,), TEXTS, harmful).held_out_kl == undistilled.held_out_kl


def test_a_stored_proxy_has_no_perplexities_and_comes_back_as_it_was(encoder, tmp_path, head_task):
    made = make(stirred(encoder), (0,), TEXTS, SHORT, tmp_path / "proxy")
    told = json.loads((tmp_path / "proxy" / "proxy.json").read_text())
    assert (told["held_out_perplexity"], told["target_perplexity"]) == (None, None)
    read = Proxy.load(tmp_path / "proxy", name=made.model.ref.name)
    assert (read.model.lm_head, read.measured) == ("none", made.measured)
    both = SoftPrompt(torch.randn(5, 32, generator=torch.Generator().manual_seed(0)), made.model.ref)
    ours, theirs = (class_logits(proxy.model, head_task, TEXTS[:5], both) for proxy in (made, read))
    assert torch.equal(ours, theirs)


def test_only_perplexities_may_be_unknown(encoder, tmp_path):
    make(encoder, (0,), TEXTS, replace(SHORT, steps=0), tmp_path / "proxy")
    path = tmp_path / "proxy" / "proxy.json"
    told = json.loads(path.read_text())
    for key, rule in (("held_out_kl", "a number"), ("steps", "a whole number of steps")):
        path.write_text(json.dumps(told | {key: None}))
        with pytest.raises(ModelError, match=f"{key} None is not {rule}"):
            read_record(tmp_path / "proxy")
