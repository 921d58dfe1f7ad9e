"""A preview tells how far a proxy carries what the target itself could learn."""

from dataclasses import replace

import pytest

from tests.transfer.post.transfers import QUICK
from transfer.post import preview as module
from transfer.post.preview import Preview, preview
from transfer.post.starts import public_answers
from transfer.post.transfer import transfer_problem

NOUNS = "film", "plot", "music", "food", "weather", "noise", "train", "walk", "team", "bank"
TEXTS = [f"We liked the {one} and the {other}." for one in NOUNS for other in NOUNS]


def test_the_target_as_its_own_proxy_carries_what_it_learns(target, tiny_task):
    told = []
    settings = replace(QUICK, steps=60, check_every=10)
    found = preview(target, target, tiny_task, TEXTS, 4, settings, lambda *step: told.append(step))
    assert found.texts == 20
    assert found.target == found.proxy > found.bare  # one prompt, taught with one seed
    assert found.transferred >= found.target - 0.05
    assert found.carried == pytest.approx(1, abs=0.2)
    assert told[-1] == (560, 560)


def test_figures_are_of_held_out_texts_alone(proxy, target, tiny_task, monkeypatch):
    answers = public_answers(target, tiny_task, TEXTS)
    held_out, asked, ask = [], set(), module.class_logits

    def noted(model, task, texts, prompt):
        asked.update(texts)
        return ask(model, task, texts, prompt)

    def posed(*given):
        problem = transfer_problem(*given)
        held_out.extend(problem.held_out)
        return problem

    monkeypatch.setattr(module, "class_logits", noted)
    monkeypatch.setattr(module, "transfer_problem", posed)
    found = preview(proxy, target, tiny_task, TEXTS, 4, replace(QUICK, steps=2))
    assert asked == {TEXTS[index] for index in held_out}
    goal = answers[held_out].argmax(dim=1)
    bare = ask(target, tiny_task, [TEXTS[index] for index in held_out], None).argmax(dim=1)
    assert found.bare == pytest.approx((bare == goal).double().mean().item())


def test_where_the_target_learns_nothing_nothing_is_carried():
    assert Preview(20, 0.5, 0.6, 0.7, 0.7, 0.9).carried == pytest.approx(0.5)
    assert Preview(20, 0.9, 0.6, 0.7, 0.7, 0.9).carried is None
