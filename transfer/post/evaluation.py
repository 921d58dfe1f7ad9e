"""Accuracy or F1 of a prompt, micro and macro side by side, so that the two are never confused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import cast

import torch

from transfer.errors import ModelError
from transfer.models.generation import answers
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tasks import Task, Truth


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of correct answers in [0, 1]: `micro` over records, `macro` the mean over classes."""

    micro: float
    macro: float


@dataclass(frozen=True, slots=True)
class LabelSets:
    """Scores in [0, 1] of answers that are sets of labels.

    Attributes:
        micro: F1 over all decisions, 2·TP / (2·TP + FP + FN).
        macro: mean over labels of each label's own F1; a label that is neither true nor answered anywhere has none.
        exact: share of texts whose set is exactly the true one.
    """

    micro: float
    macro: float
    exact: float


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
    labels: Sequence[Truth],
    prompt: SoftPrompt | None = None,
) -> Accuracy | LabelSets:
    """Return the accuracy of the model's most likely class on labelled texts, or the score of its sets of labels."""
    return scored(task, class_logits(model, task, texts, prompt), labels)


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


def decided(task: Task, logits: torch.Tensor) -> list[Truth]:
    """Return the answers that class logits [N, C] give: the likeliest class, or all above the task's threshold."""
    if not task.many:
        return cast("list[Truth]", logits.argmax(dim=1).tolist())
    # in double precision, so that a threshold is the number that the task declares
    above = logits.double().sigmoid() > task.threshold  # [N, C]
    return [tuple(row.nonzero().flatten().tolist()) for row in above]


def scored(task: Task, logits: torch.Tensor, labels: Sequence[Truth]) -> Accuracy | LabelSets:
    """Return the score of class logits [N, C] against what is true of N ≥ 1 texts, as the task counts it."""
    if task.many:
        return set_score(
            cast("list[tuple[int, ...]]", decided(task, logits)), cast("Sequence[tuple[int, ...]]", labels)
        )
    return score(logits, cast("Sequence[int]", labels))


def set_score(answers: Sequence[tuple[int, ...]], truth: Sequence[tuple[int, ...]]) -> LabelSets:
    """Return the scores of N ≥ 1 sets of labels; where no label is true or answered at all, they are 1."""
    pairs = list(zip(map(set, answers), map(set, truth), strict=True))
    # by label: TP, and 2·TP + FP + FN
    right = Counter(chain.from_iterable(ours & theirs for ours, theirs in pairs))
    named = Counter(chain.from_iterable([*ours, *theirs] for ours, theirs in pairs))
    per_label = [2 * right[label] / count for label, count in named.items()]
    return LabelSets(
        micro=2 * right.total() / named.total() if named else 1.0,
        macro=fmean(per_label) if per_label else 1.0,
        exact=fmean(ours == theirs for ours, theirs in pairs),
    )


def score(logits: torch.Tensor, labels: Sequence[int]) -> Accuracy:
    """Return the accuracy of class logits [N, C] against N ≥ 1 integer labels."""
    truth = torch.tensor(labels)  # [N]
    right = logits.argmax(dim=1) == truth  # [N, C] → [N]
    # a class without records has no share, so it does not count in the mean
    per_class = [right[truth == index].float().mean().item() for index in sorted(set(labels))]
    return Accuracy(right.float().mean().item(), sum(per_class) / len(per_class))
