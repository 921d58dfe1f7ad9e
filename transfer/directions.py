"""The directions a prompt's gradient moves in, learnt from public text: what a `Subspace` is made of."""

from collections.abc import Sequence

import torch

from transfer.errors import UsageError
from transfer.gradients import LabelledLines, per_record_gradients
from transfer.models import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace
from transfer.tasks import Task

PUBLIC_TEXTS = 600
"""Texts looked at: many times the directions, and still one quick pass over the proxy."""


def public_subspace(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, dimensions: int, seed: int
) -> Subspace:
    """The first `dimensions` principal directions of the label loss's gradient at `prompt` on public `texts`.

    Labels are drawn at random: which way a gradient points is not asked, only along which line. D is less than
    asked where the texts or the prompt have fewer directions.

    Raises:
        UsageError: no texts, no labels, or `dimensions` is not ≥ 1.
        TaskError: the label words do not fit the model's tokeniser.
    """
    if dimensions < 1 or not texts:
        raise UsageError(f"{dimensions} directions of {len(texts)} texts: both must be ≥ 1")
    if not task.labels:
        raise UsageError(f"task {task.name!r} has no labels to learn directions from")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(texts), generator=generator)[:PUBLIC_TEXTS].tolist()
    encoder = model.encoder(task)
    lines = encoder.encode([texts[index] for index in chosen])
    labels = torch.randint(len(task.labels), (len(lines),), generator=generator)
    data = LabelledLines(lines, labels, encoder.words)
    gradients = prompt.vectors.new_empty((len(lines), *prompt.vectors.shape))  # [N, P, H]
    for group in data.batches(range(len(lines)), prompt.length):
        gradients[group] = per_record_gradients(model, data, group, prompt.vectors)
    found = torch.linalg.svd(gradients.flatten(1), full_matrices=False).Vh[:dimensions]  # [D, P·H]
    return Subspace(found.reshape(-1, *prompt.vectors.shape).contiguous())
