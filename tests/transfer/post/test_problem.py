from dataclasses import replace

import pytest
import torch

from transfer.distillation.proxy import cut
from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.post.settings import TransferSettings
from transfer.post.transfer import descend, initial_prompt, transfer, transfer_problem
from transfer.prompt import SoftPrompt

THINGS = ("film", "plot", "music", "food", "long train home", "weather")
TEXTS = [f"We {verb} the {thing}." for verb in ("liked", "saw", "made", "missed") for thing in THINGS]
SETTINGS = TransferSettings(alpha=0.5, steps=6, batch_size=8, learning_rate=0.05, check_every=2)


@pytest.fixture
def given(causal, tiny_task):
    """prompt, proxy, target, task, texts: what a transfer takes."""
    with torch.no_grad():  # fresh weights are so small that a prompt hardly moves an answer
        for matrix in causal.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    proxy = LanguageModel(cut(causal, (0,)), causal.tokenizer, replace(causal.ref, name="proxy"), "causal")
    prompt = SoftPrompt(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), proxy.ref)
    return prompt, proxy, causal, tiny_task, TEXTS


class Pull:
    """A guide towards a uniform answer, with the weights it is told."""

    def __init__(self, weight):
        self.told, self.seen = weight, []

    def losses(self, logits, chosen):
        return logits.square().sum(dim=-1)

    def weight(self, done, task, own):
        self.seen.append((done, task.shape, own.shape))
        return self.told


def test_the_loss_of_each_text_stands_at_its_own_place_whatever_the_batches(given):
    problem = transfer_problem(*given, SETTINGS)
    vectors = given[0].vectors
    chosen = problem.order.tolist()
    together = problem.losses_of(vectors, chosen)
    apart = torch.cat([problem.losses_of(vectors, [index]) for index in chosen])
    assert torch.allclose(together, apart, rtol=1e-4, atol=1e-7)
    assert together.std() > 0
    assert problem.held_out_loss(vectors) == pytest.approx(
        together[: problem.held_out_count].mean().item(), rel=1e-4
    )


def test_the_order_of_training_is_the_same_at_every_call_and_leaves_out_what_measures(given):
    problem = transfer_problem(*given, SETTINGS)
    first, again = ([chosen for chosen, _ in zip(problem.batches(), range(9), strict=False)] for _ in "ab")
    assert first == again
    assert {index for chosen in first for index in chosen} == set(problem.trained)
    assert set(problem.trained).isdisjoint(problem.held_out)
    assert len(problem.trained) + len(problem.held_out) == len(TEXTS)


def test_the_gradient_is_the_mean_over_the_chosen_texts_however_many_they_are(given):
    problem = transfer_problem(*given, SETTINGS)
    vectors = given[0].vectors.clone().requires_grad_(True)
    pull = Pull(1.0)
    once = problem.gradients(vectors, [0, 1, 2], pull.losses)
    twice = problem.gradients(vectors, [0, 1, 2, 0, 1, 2], pull.losses)
    assert len(once) == len(twice) == 2
    for one, two in zip(once, twice, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-6)


def test_a_guide_without_weight_changes_nothing_and_one_with_weight_does(given):
    problem = transfer_problem(*given, SETTINGS)
    plain = descend(problem, given[0], 6)
    for weight, same in ((0.0, True), (5.0, False)):
        guide = Pull(weight)
        guided = descend(problem, given[0], 6, guide)
        assert torch.equal(guided.prompt.vectors, plain.prompt.vectors) is same
        assert guide.seen[0] == (1 / 6, (4, 32), (4, 32))
        assert [round(6 * done) for done, *_ in guide.seen] == [1, 2, 3, 4, 5, 6]


def test_a_transfer_may_start_anywhere(given):
    prompt, proxy, target, task, _ = given
    start = SoftPrompt(torch.ones(7, 32), target.ref)
    found = transfer(*given, replace(SETTINGS, steps=0), start=start)
    assert torch.equal(found.prompt.vectors, start.vectors)
    usual = transfer(*given, replace(SETTINGS, steps=0))
    assert torch.equal(
        usual.prompt.vectors, initial_prompt(prompt, proxy, target, task, TransferSettings()).vectors
    )


def test_a_descent_that_runs_into_infinity_returns_where_it_began(given):
    problem = transfer_problem(*given, SETTINGS)
    assert torch.equal(descend(problem, given[0], 6, Pull(float("inf"))).prompt.vectors, given[0].vectors)


def test_a_problem_of_too_few_texts_is_refused_before_any_forward_pass(given):
    with pytest.raises(UsageError, match="9 public texts are too few"):
        transfer_problem(*given[:4], TEXTS[:9], SETTINGS)
