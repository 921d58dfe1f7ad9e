"""How often a prompt is right, counted two ways so that nobody compares one with the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transfer.errors import ModelError
from transfer.models.generation import answers
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares in [0, 1]: `micro` of records, `macro` the mean of each class's share."""

    micro: float
    macro: float


def class_logits(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt | None
) -> torch.Tensor:
    """Class logits [N, C] of `texts` behind `prompt`, or of the bare model for None."""
    encoder = model.encoder(task)
    return model.answer_logits(encoder.encode(texts), prompt, encoder.words)


def accuracy(
    model: LanguageModel,
    task: Task,
    texts: Sequence[str],
    labels: Sequence[int],
    prompt: SoftPrompt | None = None,
) -> Accuracy:
    """Accuracy of the model's most likely class on labelled texts."""
    return score(class_logits(model, task, texts, prompt), labels)


def exact_match(
    model: LanguageModel,
    task: Task,
    texts: Sequence[str],
    truth: Sequence[str],
    prompt: SoftPrompt | None = None,
) -> float:
    """Share in [0, 1] of texts whose answer in free text is the true one; see `matched`."""
    return matched(answers(model, task, texts, prompt), truth)


def matched(found: Sequence[str], truth: Sequence[str]) -> float:
    """Share in [0, 1] of answers that are the true ones, whatever the spaces.

    Raises:
        ModelError: no texts.
    """
    if not truth:
        raise ModelError("no texts to answer")
    return sum(ours.split() == true.split() for ours, true in zip(found, truth, strict=True)) / len(truth)


def score(logits: torch.Tensor, labels: Sequence[int]) -> Accuracy:
    """Accuracy of class logits [N, C] against integer labels."""
    truth = torch.tensor(labels)
    right = logits.argmax(dim=1) == truth
    per_class = [right[truth == index].float().mean().item() for index in sorted(set(labels))]
    return Accuracy(right.float().mean().item(), sum(per_class) / len(per_class))
