"""The directions of a `Subspace`: those a prompt's gradient moves in, computed on public text."""

from collections.abc import Sequence

import torch

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.progress import progress
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace
from transfer.tasks import Task
from transfer.tokens.encoder import Encoder

PUBLIC_TEXTS = 600
"""Largest number of texts used: many times the directions, and still one quick pass over the proxy."""


def public_subspace(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, dimensions: int, seed: int
) -> Subspace:
    """Return the first `dimensions` principal directions of the loss's gradient at `prompt` on public `texts`.

    Answers are drawn at random: a direction counts, its sign does not. The subspace has fewer dimensions where the
    texts or the prompt have fewer directions.

    Guarantee:
        The result is a function of public values alone: the model, the task, `texts`, `prompt` and `seed`.

    Raises:
        UsageError: no texts, or `dimensions` is not ≥ 1.
        TaskError: the task does not fit the model or its tokeniser.
    """
    if dimensions < 1 or not texts:
        raise UsageError(f"{dimensions} directions from {len(texts)} public texts: both must be ≥ 1")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(texts), generator=generator)[:PUBLIC_TEXTS].tolist()
    data = _answered(model.encoder(task), [texts[index] for index in chosen], generator)
    gradients = prompt.vectors.new_empty((len(chosen), *prompt.vectors.shape))  # [N, P, H]
    with progress("learning directions on public text") as show:
        done = 0
        for group in data.batches(range(len(chosen)), prompt.length):
            gradients[group] = per_record_gradients(model, data, group, prompt.vectors)
            done += len(group)
            show(done, len(chosen))
    directions = torch.linalg.svd(gradients.flatten(1), full_matrices=False).Vh[:dimensions]  # [D, P·H]
    return Subspace(directions.reshape(-1, *prompt.vectors.shape).contiguous())  # [D, P, H]


def _answered(encoder: Encoder, texts: Sequence[str], generator: torch.Generator) -> LabelledLines:
    """Give each text a random answer: a label, each label or not, or for free text a word of the text itself.

    Longer spans, words of another text and words of the vocabulary capture as much of a private gradient. The proxy's
    own answers capture less.
    """
    if encoder.words is None:
        words = [text.split() for text in texts]
        places = [int(torch.randint(len(own), (), generator=generator)) for own in words]
        answers = [own[place] for own, place in zip(words, places, strict=True)]
        return LabelledLines(encoder.encode(texts, answers), torch.tensor([]), None)
    count, lines = len(encoder.task.labels), encoder.encode(texts)
    if encoder.task.many:
        labels = torch.randint(2, (len(texts), count), generator=generator).float()
    else:
        labels = torch.randint(count, (len(texts),), generator=generator)
    return LabelledLines(lines, labels, encoder.words)
