from dataclasses import replace

import pytest
import torch

from tests.transfer.panda.libraries import (
    SETTINGS,
    args,
    consult,
    noise,
    record,
)
from transfer.model_ref import ModelRef
from transfer.models.objectives import divergences
from transfer.panda import selection as panda
from transfer.panda.library import NULL, Scores, shortlist
from transfer.panda.scores import leep
from transfer.panda.selection import LibraryTeacher, probe, transfer_with_library
from transfer.post.evaluation import class_logits
from transfer.post.transfer import transfer
from transfer.prompt import SoftPrompt


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch):
    monkeypatch.setattr(panda, "PROBE_STEPS", 4)


def test_a_library_prompt_that_helps_is_used_and_every_step_is_counted(new, good):
    seen = []
    choice = consult(new, [record(new), good], lambda step, steps: seen.append((step, steps)))
    assert choice.chosen == choice.finalist == choice.start == "prompts/good/versions/1"
    assert choice.transferred.held_out_loss < choice.plain.held_out_loss
    assert choice.comparison.difference > choice.comparison.error > 0
    gap = choice.plain.held_out_loss - choice.transferred.held_out_loss
    assert choice.comparison.difference == pytest.approx(gap, rel=1e-4)
    assert choice.verdict.startswith("prompts/good/versions/1 is used")
    assert seen == [(step + 1, len(seen)) for step in range(2 * 4 + 2 * 3 * 4)]


def test_a_wrong_library_gives_the_plain_transfer_bit_for_bit(new):
    wrong = [
        record(new, f"prompts/wrong/versions/{seed}", prompt=noise(new.target.ref, seed, 30.0))
        for seed in (1, 2)
    ]
    plain = transfer(*args(new), SETTINGS)
    choice = consult(new, wrong)
    assert choice.transferred.prompt.to_bytes() == plain.prompt.to_bytes() == choice.plain.prompt.to_bytes()
    assert choice.transferred.held_out_loss == plain.held_out_loss
    assert choice.chosen is None
    assert "no library prompt is used" in choice.verdict


@pytest.mark.slow
def test_a_good_prompt_shuffled_is_left_alone_however_well_its_size_fits(new, good):
    order = torch.randperm(4 * 32, generator=torch.Generator().manual_seed(0))
    shuffled = SoftPrompt(good.prompt.vectors.flatten()[order].reshape(4, 32), new.target.ref)
    settings = replace(SETTINGS, steps=20, learning_rate=0.05)
    choice = transfer_with_library(new, new.problem(settings), [replace(good, prompt=shuffled)])
    assert choice.finalist == good.name
    assert choice.comparison.difference != 0
    assert choice.transferred.prompt.to_bytes() == transfer(*args(new), settings).prompt.to_bytes()


def test_an_empty_library_is_the_plain_transfer(new):
    choice = consult(new, [])
    assert choice.transferred.prompt.to_bytes() == transfer(*args(new), SETTINGS).prompt.to_bytes()
    assert [item.name for item in choice.candidates] == [NULL]
    assert "no eligible library prompt" in choice.verdict


def test_a_public_start_is_taught_once_for_the_transfer_and_for_the_library(new, good):
    seen, settings = [], replace(SETTINGS, start="public")
    choice = transfer_with_library(
        new, new.problem(settings), [good], lambda step, steps: seen.append((step, steps))
    )
    assert choice.plain.prompt.to_bytes() == transfer(*args(new), settings).prompt.to_bytes()
    assert seen == [(step + 1, len(seen)) for step in range(4 + 2 * 4 + 2 * 2 * 4)]


def test_every_score_is_measured_where_it_can_be(new, good):
    choice = consult(
        new,
        [
            good,
            record(new, "longer", prompt=noise(new.target.ref, 3, length=6)),
            record(new, "elsewhere", proxy_prompt=noise(ModelRef("elsewhere", "e" * 64), 1)),
            record(new, "silent", texts=()),
        ],
    )
    _, near, longer, elsewhere, silent = (item.scores for item in choice.candidates)
    assert near.effect > max(longer.effect, silent.effect)
    assert near.paper is not None
    assert longer.gradient is None
    assert (elsewhere.effect, elsewhere.paper, silent.paper) == (None, None, None)
    assert all(0 <= item.alignment <= 1 and item.leep <= 0 for item in (near, longer, elsewhere, silent))


def test_the_very_same_prompt_in_the_library_scores_as_high_as_can_be(new):
    prompt = noise(new.target.ref, 0)
    same = replace(new, proxy=new.target, prompt=prompt)
    problem = same.problem(SETTINGS)
    texts = tuple(same.texts[index] for index in problem.trained)
    twin = record(new, "twin", prompt=prompt, proxy_prompt=prompt, task=new.task, texts=texts)
    other = replace(
        twin, name="other", prompt=noise(new.target.ref, 3), proxy_prompt=noise(new.target.ref, 3)
    )
    near = SoftPrompt(prompt.vectors + noise(new.target.ref, 7, 0.01).vectors, new.target.ref)
    scores = panda.score(same, problem, near, [other, twin])
    ours, theirs = scores["twin"], scores["other"]
    assert (ours.effect, ours.alignment, ours.paper) == pytest.approx((1.0, 1.0, 1.0), abs=1e-4)
    assert theirs.effect == pytest.approx(-1.0, abs=1e-4)
    assert max(theirs.alignment, theirs.paper) < 0.99
    answers, told = (class_logits(new.target, new.task, texts, item.prompt) for item in (twin, other))
    assert (ours.leep, theirs.leep) == pytest.approx((leep(answers, answers), leep(answers, told)), rel=1e-5)
    assert ours.gradient > max(0.0, theirs.gradient)
    assert shortlist(scores) == ["twin", "other"]


def test_nothing_of_a_model_changes_and_no_teacher_is_in_training_mode(new, good):
    seen = []
    models = (new.proxy.model, new.target.model)
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    handles = [
        model.register_forward_pre_hook(lambda module, _: seen.append(module.training)) for model in models
    ]
    content = good.prompt.to_bytes()
    choice = consult(new, [good])
    for handle in handles:
        handle.remove()
    assert seen
    assert not any(seen)
    for model, then in zip(models, before, strict=True):
        assert all(torch.equal(value, then[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
    choice.transferred.prompt.vectors.zero_()
    assert good.prompt.to_bytes() == content


def test_the_probe_halves_its_field_and_keeps_the_null_one_to_the_end(new):
    problem = new.problem(SETTINGS)
    starts = {f"p{seed}": noise(new.target.ref, seed, 1 + seed) for seed in range(12)}
    probed, finalist = probe(problem, {NULL: noise(new.target.ref, 9), **starts})
    rounds = {name: len(item.losses) for name, item in probed.items()}
    assert rounds.pop(NULL) == 2
    assert list(rounds) == list(starts)[:10]
    assert sorted(rounds.values()) == [1] * 7 + [2] * 3
    first = sorted(rounds, key=lambda name: probed[name].losses[0])
    assert {name for name in rounds if rounds[name] == 2} == set(first[:3])
    assert finalist == min(first[:3], key=lambda name: probed[name].losses[1])


@pytest.mark.parametrize(
    ("effect", "alignment", "strength"),
    [(0.4, 0.9, 0.4), (-0.4, 0.9, 0.0), (None, 0.9, 0.9), (1.1, 0.0, 1.0)],
)
def test_a_teachers_say_is_never_negative(effect, alignment, strength):
    assert Scores(effect, alignment, -1.0, None, None).strength == strength


def test_the_teachers_loss_is_kl_to_its_constant_answers_whatever_the_batch():
    answers, logits = torch.randn(4, 3), torch.randn(4, 3, requires_grad=True)
    teacher = LibraryTeacher(answers, 2.0, 1.0)
    losses = teacher.losses(logits, [0, 1, 2, 3])
    assert torch.equal(losses[[2, 0]], teacher.losses(logits[[2, 0]], [2, 0]))
    assert torch.equal(losses, divergences(answers, logits, 2.0))
    losses.sum().backward()
    assert answers.grad is None


def test_the_teachers_weight_follows_the_agreement_of_gradients_and_fades():
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    teacher = LibraryTeacher(torch.zeros(1, 2), 2.0, 0.5)
    assert teacher.weight(0.01, one, one) == pytest.approx(0.5)
    assert teacher.weight(0.1, one, other) == pytest.approx(0.5 * 0.9)
    assert teacher.weight(0.55, one, other) == pytest.approx(0.5 * 0.81 * 0.5)
    assert teacher.weight(1.0, one, one) == 0.0
    against = LibraryTeacher(torch.zeros(1, 2), 2.0, 0.5)
    assert against.weight(0.01, one, -one) == 0.0
    assert against.weight(0.01, one, one) == 0.0  # one step of agreement does not outweigh the history


def test_a_teacher_is_as_strong_as_its_prompt_is_like_the_new_one_and_told_how_far_the_transfer_is(
    new, monkeypatch
):
    made, done = [], []

    class Watched(LibraryTeacher):
        def __init__(self, answers, temperature, strength):
            made.append((temperature, strength))
            super().__init__(answers, temperature, strength)

        def weight(self, share, task, own):
            done.append(share)
            return super().weight(share, task, own)

    monkeypatch.setattr(panda, "LibraryTeacher", Watched)
    item = record(new, proxy_prompt=noise(ModelRef("elsewhere", "e" * 64), 1))
    choice = transfer_with_library(new, new.problem(replace(SETTINGS, temperature=3.0)), [item])
    strength = choice.candidates[1].scores.strength
    assert made == [(3.0, strength)]
    assert 0 < strength < 1
    assert done == [0.25, 0.5, 0.75, 1.0]
