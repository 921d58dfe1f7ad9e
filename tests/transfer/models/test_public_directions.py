"""Directions learnt from public text hold most of a stranger's gradient."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.subspaces import TEXTS, found
from transfer.errors import UsageError
from transfer.models.objectives import answer_loss
from transfer.models.public_directions import public_subspace


@pytest.fixture
def start(model, tiny_task):
    return model.text_prompt(tiny_task.init_text, 3)


def test_directions_are_orthonormal_and_repeat_for_a_seed(model, tiny_task, start):
    one, two = found(model, tiny_task, start), found(model, tiny_task, start)
    rows = one.directions.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4), atol=1e-5, rtol=0)
    assert torch.equal(one.directions, two.directions)
    assert not torch.equal(one.directions, found(model, tiny_task, start, seed=1).directions)


def test_a_few_directions_of_public_text_hold_most_of_a_stranger_s_gradient(model, tiny_task, start):
    """Of any class: the labels of the public texts are drawn, not known."""
    axes, encoder = found(model, tiny_task, start, dimensions=8), model.encoder(tiny_task)
    batch = model.collate(encoder.encode(["We liked the weather, nobody liked the train."]))
    for label in (0, 1):
        rows = start.vectors.clone().unsqueeze(0).requires_grad_(True)
        loss = model.logits(batch, rows, encoder.words).log_softmax(1)[0, label]
        (gradient,) = torch.autograd.grad(loss, rows)
        kept = axes.coordinates(gradient).norm() / gradient.norm()
        by_chance = (8 / gradient.numel()) ** 0.5
        assert kept > max(0.8, 2 * by_chance)


def test_directions_of_public_words_hold_most_of_a_strangers_gradient_of_free_text(causal, tiny_task):
    """Of an answer that no public text holds, in several words, and its end."""
    task = replace(tiny_task, labels=(), kind="text", answer_tokens=8)
    start = causal.text_prompt(task.init_text, 3)
    axes = found(causal, task, start, dimensions=16)
    batch = causal.collate(causal.encoder(task).encode(["We liked the weather."], ["a long walk home"]))
    rows = start.vectors.clone().unsqueeze(0).requires_grad_(True)
    (gradient,) = torch.autograd.grad(answer_loss(causal.logits(batch, rows), batch.goal).sum(), rows)
    assert axes.coordinates(gradient).norm() > 0.93 * gradient.norm()
    assert torch.equal(axes.directions, found(causal, task, start, dimensions=16).directions)


def test_fewer_texts_than_directions_give_fewer_directions(model, tiny_task, start):
    assert public_subspace(model, tiny_task, TEXTS[:5], start, 40, 0).dimensions == 5


def test_no_texts_and_no_directions_are_refused(model, tiny_task, start):
    with pytest.raises(UsageError, match="both must be"):
        public_subspace(model, tiny_task, [], start, 4, 0)
    with pytest.raises(UsageError, match="both must be"):
        public_subspace(model, tiny_task, TEXTS, start, 0, 0)
