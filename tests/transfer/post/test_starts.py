"""What public text alone teaches, of a proxy and of a target, is what the bare target answers without its prior."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.post.transfers import QUICK, Forwards
from transfer.errors import UsageError
from transfer.models.objectives import divergence
from transfer.post.baselines import only_answers, without_prior
from transfer.post.evaluation import class_logits
from transfer.post.starts import BARE, PRIOR, begun, free_losses, public_answers, public_start, taught
from transfer.post.transfer import transfer, transfer_problem
from transfer.prompt import SoftPrompt

NOUNS = "film", "plot", "music", "food", "weather", "noise", "train", "walk", "team", "bank"
TEXTS = [f"We liked the {one} and the {other}." for one in NOUNS for other in NOUNS[:5]]


def test_public_answers_are_the_bare_target_s_without_its_prior_from_one_pass(target, tiny_task):
    answers = public_answers(target, tiny_task, TEXTS)
    torch.testing.assert_close(answers, without_prior(target, tiny_task, TEXTS, TEXTS))
    with pytest.raises(UsageError, match="9 public texts are too few"):
        public_answers(target, tiny_task, TEXTS[:9])


def test_behind_a_public_start_the_proxy_answers_like_the_target(proxy, target, tiny_task):
    answers, told = public_answers(target, tiny_task, TEXTS), []
    start = public_start(answers, proxy, tiny_task, TEXTS, 4, 0, lambda *step: told.append(step))
    assert (start.model, start.length) == (proxy.ref, 4)
    assert told[-1] == (250, 250)
    text = proxy.text_prompt(tiny_task.init_text, 4)
    before, after = (
        divergence(answers, class_logits(proxy, tiny_task, TEXTS, prompt), 1.0) for prompt in (text, start)
    )
    assert after < 0.5 * before


@pytest.fixture
def problem(prompt, proxy, target, tiny_task):
    """A problem whose losses need the bare target's answers."""
    return transfer_problem(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, start="public"))


def test_the_losses_of_what_is_free_are_those_of_its_answers(problem, target, tiny_task):
    found, held_out = free_losses(problem), problem.held_out
    assert set(found) == {BARE, PRIOR}
    for name, logits in ((BARE, problem.answers(None)), (PRIOR, public_answers(target, tiny_task, TEXTS))):
        assert found[name] == pytest.approx(problem.losses(logits[held_out], held_out).mean().item())


def test_a_problem_whose_losses_need_the_bare_target_asks_it_once(problem, prompt, proxy, target, tiny_task):
    with Forwards(target=target) as forwards:
        answers = problem.answers(None)
    assert not forwards.seen
    torch.testing.assert_close(answers, replace(problem, bare=None).answers(None))
    assert transfer_problem(prompt, proxy, target, tiny_task, TEXTS, only_answers(QUICK)).bare is None


def test_the_texts_that_train_teach_a_target_its_own_answers(problem, target, tiny_task):
    start = SoftPrompt(torch.randn(4, target.width, generator=torch.Generator().manual_seed(1)), target.ref)
    prompt, trained = taught(problem, start), problem.trained
    answers = public_answers(target, tiny_task, TEXTS)[trained]
    before, after = (divergence(answers, problem.answers(item)[trained], 1.0) for item in (start, prompt))
    assert after < 0.8 * before


def test_a_public_start_begins_a_transfer_and_any_other_is_left_alone(
    problem, prompt, proxy, target, tiny_task
):
    start, seen = target.text_prompt(tiny_task.init_text, 4), []
    assert begun(replace(problem, settings=QUICK), start) is start
    free = begun(problem, start, lambda *step: seen.append(step))
    assert torch.equal(free.vectors, taught(problem, start).vectors)
    assert seen[-1] == (QUICK.steps, QUICK.steps)  # no more than the transfer's
    seen.clear()
    settings = replace(QUICK, start="public")
    moved = transfer(prompt, proxy, target, tiny_task, TEXTS, settings, lambda *step: seen.append(step))
    assert seen == [(step + 1, 2 * QUICK.steps) for step in range(2 * QUICK.steps)]
    assert moved.start_loss == problem.held_out_loss(free.vectors)
    assert moved.held_out_loss < moved.start_loss
