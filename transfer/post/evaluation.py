"""Accuracy of a prompt, micro and macro side by side, so that the two are never confused."""

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
    """Shares of correct answers in [0, 1]: `micro` over records, `macro` the mean over classes."""

    micro: float
    macro: float


def class_logits(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt | None
) -> torch.Tensor:
    """Return class logits [N, C] of `texts` behind `prompt`, or of the bare model for None."""
    encoder = model.encoder(task)
    return model.answer_logits(encoder.encode(texts), prompt, encoder.words)


def accuracy(
    model: LanguageModel,
    task: Task,
    texts: Sequence[str],
    labels: Sequence[int],
    prompt: SoftPrompt | None = None,
) -> Accuracy:
    """Return the accuracy of the model's most likely class on labelled texts."""
    return score(class_logits(model, task, texts, prompt), labels)


def exact_match(
    model: LanguageModel,
    task: Task,
    texts: Sequence[str],
    truth: Sequence[str],
    prompt: SoftPrompt | None = None,
) -> float:
    """Return the share in [0, 1] of texts whose answer in free text is the true one; see `matched`."""
    return matched(answers(model, task, texts, prompt), truth)


def matched(replies: Sequence[str], truth: Sequence[str]) -> float:
    """Return the share in [0, 1] of `replies` that equal the true answers, spaces aside.

    Raises:
        ModelError: there are no texts.
    """
    if not truth:
        raise ModelError("no texts to answer; pass at least one")
    return sum(ours.split() == true.split() for ours, true in zip(replies, truth, strict=True)) / len(truth)


def score(logits: torch.Tensor, labels: Sequence[int]) -> Accuracy:
    """Return the accuracy of class logits [N, C] against N ≥ 1 integer labels."""
    truth = torch.tensor(labels)  # [N]
    right = logits.argmax(dim=1) == truth  # [N, C] → [N]
    # a class without records has no share, so it does not count in the mean
    per_class = [right[truth == index].float().mean().item() for index in sorted(set(labels))]
    return Accuracy(right.float().mean().item(), sum(per_class) / len(per_class))
