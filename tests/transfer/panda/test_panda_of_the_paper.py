from dataclasses import replace

import pytest
import torch

from tests.benchmarks.panda_paper import panda_losses, paper_transfer
from transfer.errors import UsageError
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt

RECORDS = [
    (f"We {verb} the {thing}.", label)
    for label, verb in enumerate(("liked", "missed"))
    for thing in ("film", "plot", "music", "food", "walk", "train")
]
SETTINGS = TransferSettings(steps=8, batch_size=6, learning_rate=0.1, check_every=4)


def test_the_loss_is_cross_entropy_plus_the_weighed_distance_to_the_teacher():
    logits, teacher = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    losses = panda_losses(logits, torch.tensor([0, 1]), teacher, similarity=0.5, weight=0.1)
    assert losses.tolist() == pytest.approx([0.6931 + 0.1 * 0.5 * 2.0, 0.6931], abs=1e-4)


def test_an_unlike_teacher_teaches_nothing():
    logits, labels = torch.randn(3, 2), torch.tensor([0, 1, 1])
    far = torch.randn(3, 2)
    assert torch.equal(panda_losses(logits, labels, far, -0.9), panda_losses(logits, labels, far, 0.0))


def test_a_fresh_prompt_learns_the_labels_and_the_teacher_stays_as_it_was(causal, tiny_task):
    with torch.no_grad():
        for matrix in causal.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    start, teacher = (
        SoftPrompt(torch.randn(4, 32, generator=torch.Generator().manual_seed(seed)), causal.ref)
        for seed in (0, 1)
    )
    before = teacher.to_bytes()
    given = (causal, tiny_task, RECORDS)
    found = paper_transfer(start, teacher, 0.8, *given, replace(SETTINGS, held_out=0.2))
    assert found.held_out_loss <= found.start_loss
    assert teacher.to_bytes() == before
    alone = paper_transfer(start, teacher, 0.0, *given, SETTINGS)
    assert not torch.equal(alone.prompt.vectors, found.prompt.vectors)
    with pytest.raises(UsageError, match="too few"):
        paper_transfer(start, teacher, 0.8, causal, tiny_task, RECORDS[:5], SETTINGS)
