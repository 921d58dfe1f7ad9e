"""How far a model's answers depend on the format of the question, and on a prompt where there is no question.

Letters: F formats of one question, the first of them the task's own; N texts; C classes; V vocabulary.

All but `Spread` needs no labels, so it can be measured on held-out public text. Probabilities are over the C
classes, not over the vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from transfer.models.language_model import LanguageModel
from transfer.models.objectives import divergences
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.encoder import Encoder
from transfer.wording.formats import formats

MOST_TEXTS = 200
"""Largest number of texts that are measured on."""
PART = 32
"""Texts whose logits over the vocabulary are in memory at once."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How a model's answers depend on the format.

    Attributes:
        agreement: mean, over the other formats, of the share in [0, 1] of texts answered as in the task's own format.
        least: that share in the format that agrees least.
        index: POSIX in nats ≥ 0, see `posix`; 0 if no format changes a probability.
    """

    agreement: float
    least: float
    index: float

    @staticmethod
    def of(chances: torch.Tensor) -> "Sensitivity":
        """Measure log-probabilities [F, N, C] of F ≥ 2 formats."""
        answers = chances.argmax(dim=2)  # [F, N]
        same = (answers[1:] == answers[0]).double().mean(dim=1)  # [F − 1]
        return Sensitivity(same.mean().item(), same.min().item(), posix(chances))


@dataclass(frozen=True, slots=True)
class Wording:
    """What a prompt makes of the wording.

    Attributes:
        formats: F, number of formats compared.
        texts: N, number of texts.
        prompted: the answers behind the prompt.
        bare: the answers without one.
        drift: mean KL(bare ‖ prompted) in nats over the vocabulary, behind plain text; see `drift`.
        random_drift: the same of a prompt of random words, as long.
    """

    formats: int
    texts: int
    prompted: Sensitivity
    bare: Sensitivity
    drift: float
    random_drift: float

    @staticmethod
    def of(
        model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, count: int, seed: int
    ) -> "Wording | None":
        """Measure `prompt` in up to `count` formats of a `task` with label words, on `MOST_TEXTS` of `texts` at most.

        Return None if the task has no label words, or `model` tells only one of its formats.
        """
        encoders = formats(model.encoder(task), count, seed) if task.has_words else ()
        if len(encoders) < 2:
            return None
        some = texts[:MOST_TEXTS]
        prompted, bare = (Sensitivity.of(log_chances(model, encoders, some, each)) for each in (prompt, None))
        other = model.vocabulary_prompt(prompt.length, torch.Generator().manual_seed(seed))
        drifts = (drift(model, task, some, each) for each in (prompt, other))
        return Wording(len(encoders), len(some), prompted, bare, *drifts)


def log_chances(
    model: LanguageModel, encoders: Sequence[Encoder], texts: Sequence[str], prompt: SoftPrompt | None
) -> torch.Tensor:
    """Return log-probabilities of the classes [F, N, C], behind `prompt` or without one; an encoder a format."""
    logits = [model.answer_logits(each.encode(texts), prompt, each.words) for each in encoders]
    return torch.stack(logits).double().log_softmax(dim=2)


def posix(chances: torch.Tensor) -> float:
    """Return the prompt sensitivity index of log-probabilities [F, N, C], F ≥ 2, in nats.

    ψ_n = 1/(F(F−1)) Σ_i Σ_j |log p(y_j | x_n, f_i) − log p(y_j | x_n, f_j)|, y_j the answer in format f_j; the index
    is the mean of ψ_n. It follows the formula of Chatterjee et al. 2024 (https://arxiv.org/abs/2410.02185); their
    published code compares two answers to one question instead. Their division by an answer's length is left out,
    because the score of a label word is a mean over its tokens already.
    """
    count, texts, _ = chances.shape
    own, answers = chances.max(dim=2)  # [F, N], log p(y_j | f_j) and y_j
    given = chances.gather(2, answers.T.expand(count, texts, count))  # [F of i, N, F of j]
    return ((given - own.T).abs().sum() / (count * (count - 1) * texts)).item()


def drift(model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt) -> float:
    """Return how far `prompt` moves what the model says where nobody asks: mean KL(bare ‖ prompted) in nats over V.

    It is read behind the last token of each plain text: at the next one, or at a blank for a masked model. Texts are
    cut as the `task`'s are.
    """
    # a chat's label words may be several tokens in a plain line, where none of them is read
    reading = "whole" if task.chat else task.label_reading
    plain = replace(
        task, template="{text} {answer}", chat=False, system="", prompt_at="start", label_reading=reading
    )
    lines = model.encoder(plain).encode(texts)
    total = 0.0
    for start in range(0, len(lines), PART):
        some = lines[start : start + PART]
        bare, prompted = (model.answer_logits(some, each) for each in (None, prompt))  # [PART, V]
        total += divergences(bare, prompted, 1.0).sum().item()
    return total / len(lines)


@dataclass(frozen=True, slots=True)
class Spread:
    """Shares in [0, 1] of right answers by format.

    Attributes:
        canonical: in the task's own format.
        worst: in the format with fewest.
        mean: over all formats, the task's own included.
        spread: the best format's share minus the worst's.
        error: binomial standard error of `spread`, as if both formats had texts of their own.
    """

    canonical: float
    worst: float
    mean: float
    spread: float
    error: float

    @staticmethod
    def of(chances: torch.Tensor, labels: Sequence[int]) -> "Spread":
        """Score log-probabilities [F, N, C] against N ≥ 1 integer labels."""
        right = (chances.argmax(dim=2) == torch.tensor(labels)).double().mean(dim=1)  # [F]
        best, worst = right.max().item(), right.min().item()
        error = math.sqrt((best * (1 - best) + worst * (1 - worst)) / len(labels))
        return Spread(right[0].item(), worst, right.mean().item(), best - worst, error)
