import pytest
import torch

from tests.transfer.post.transfers import QUICK
from transfer.errors import UsageError
from transfer.models.objectives import divergence
from transfer.post.baselines import without_prior
from transfer.post.evaluation import class_logits
from transfer.post.starts import BARE, PRIOR, START, free_losses, public_answers, public_start
from transfer.post.transfer import transfer_problem
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


def test_the_losses_of_what_is_free_are_those_of_its_answers(proxy, target, tiny_task):
    prompt = SoftPrompt(torch.randn(4, proxy.width, generator=torch.Generator().manual_seed(0)), proxy.ref)
    problem = transfer_problem(prompt, proxy, target, tiny_task, TEXTS, QUICK)
    start = target.text_prompt(tiny_task.init_text, 4)
    found, held_out = free_losses(problem, start), problem.held_out
    assert set(found) == {BARE, PRIOR, START}
    for name, logits in ((BARE, problem.answers(None)), (PRIOR, public_answers(target, tiny_task, TEXTS))):
        assert found[name] == pytest.approx(problem.losses(logits[held_out], held_out).mean().item())
    assert found[START] != pytest.approx(problem.held_out_loss(start.vectors), rel=1e-3)
