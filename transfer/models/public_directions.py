"""The directions a prompt's gradient moves in, learnt from public text: what a `Subspace` is made of."""

from collections.abc import Sequence

import torch

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace
from transfer.tasks import Task
from transfer.tokens.encoder import Encoder

PUBLIC_TEXTS = 600
"""Texts looked at: many times the directions, and still one quick pass over the proxy."""


def public_subspace(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, dimensions: int, seed: int
) -> Subspace:
    """The first `dimensions` principal directions of the loss's gradient at `prompt` on public `texts`.

    Answers are drawn at random: which way a gradient points is not asked, only along which line. D is less than
    asked where the texts or the prompt have fewer directions.

    Raises:
        UsageError: no texts, or `dimensions` is not ≥ 1.
        TaskError: the task does not fit the model or its tokeniser.
    """
    if dimensions < 1 or not texts:
        raise UsageError(f"{dimensions} directions of {len(texts)} texts: both must be ≥ 1")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(texts), generator=generator)[:PUBLIC_TEXTS].tolist()
    data = _answered(model.encoder(task), [texts[index] for index in chosen], generator)
    gradients = prompt.vectors.new_empty((len(chosen), *prompt.vectors.shape))  # [N, P, H]
    for group in data.batches(range(len(chosen)), prompt.length):
        gradients[group] = per_record_gradients(model, data, group, prompt.vectors)
    found = torch.linalg.svd(gradients.flatten(1), full_matrices=False).Vh[:dimensions]  # [D, P·H]
    return Subspace(found.reshape(-1, *prompt.vectors.shape).contiguous())


def _answered(encoder: Encoder, texts: Sequence[str], generator: torch.Generator) -> LabelledLines:
    """The texts with an answer each that is drawn: a label or, of free text, a word of the text itself.

    Longer spans, words of another text or of the vocabulary hold as much of a private gradient; what the proxy itself
    would answer holds less.
    """
    if encoder.words is None:
        words = [text.split() for text in texts]
        places = [int(torch.randint(len(own), (), generator=generator)) for own in words]
        answers = [own[place] for own, place in zip(words, places, strict=True)]
        return LabelledLines(encoder.encode(texts, answers), torch.tensor([]), None)
    labels = torch.randint(len(encoder.task.labels), (len(texts),), generator=generator)
    return LabelledLines(encoder.encode(texts), labels, encoder.words)
