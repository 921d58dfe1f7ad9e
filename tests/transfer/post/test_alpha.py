"""α is the plan's number, or Cohen's κ of two models' answers."""

import pytest
import torch

from transfer.post.alpha import agreement, chosen_alpha


def one_hot(answers):
    return torch.eye(3)[torch.tensor(answers)]


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [
        ([0, 1, 2, 0], [0, 1, 2, 0], 1.0),
        ([0, 0, 1, 1], [0, 0, 1, 0], 0.5),  # three of four equal; by chance 1/2·3/4 + 1/2·1/4
        ([0, 1, 0, 1], [0, 0, 1, 1], 0.0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 0.0),  # less than by chance
        ([0, 0, 0, 0], [0, 0, 1, 0], 0.0),  # who always says the same tells nothing by saying it again
        ([2, 2, 2, 2], [2, 2, 2, 2], 0.0),
    ],
)
def test_agreement_is_what_goes_beyond_chance(first, second, kappa):
    assert agreement(one_hot(first), one_hot(second)) == pytest.approx(kappa, abs=1e-12)


def test_a_number_stays_as_it_is_and_agreement_is_measured():
    logits = one_hot([0, 0, 1, 1]), one_hot([0, 0, 1, 0])
    assert chosen_alpha(0.3, *logits) == 0.3
    assert chosen_alpha("agreement", *logits) == pytest.approx(0.5)
