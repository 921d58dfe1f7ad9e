"""Values of the library: earlier tasks' prompts, their scores, and the choice among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.post.descent import Transferred
from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer_problem
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

NULL = "none"
"""Name of the candidate without the library: always included, and the one to beat."""


@dataclass(frozen=True, slots=True, eq=False)
class LibraryRecord:
    """A published prompt, with what a comparison with a new one needs.

    Attributes:
        name: resource name of the version.
        prompt: the target's prompt.
        proxy_prompt: the proxy's prompt that it was transferred from.
        task: the task of the prompt.
        texts: public examples of this task for PANDA's own score; may be empty.
        cohorts: campaigns whose data owners contributed, the prompt's own first.
        guarantee: (ε, δ) of the data owner with the largest cost; ε is ∞ without privacy.

    Raises:
        UsageError: the name is that of the null candidate, or there is no cohort.
    """

    name: str
    prompt: SoftPrompt
    proxy_prompt: SoftPrompt
    task: Task
    texts: tuple[str, ...]
    cohorts: tuple[str, ...]
    guarantee: Guarantee

    def __post_init__(self) -> None:
        if self.name == NULL or not self.cohorts:
            raise UsageError(f"library prompt {self.name!r} needs a name of its own and at least one cohort")

    def obstacle(self, target: ModelRef, campaign: str, release: Guarantee) -> str | None:
        """Return why a release of `campaign` to `target` may not use this prompt, or None.

        Guarantee:
            A release with a finite ε never uses a prompt without one, or one with another unit: the costs of all
            cohorts could not be summed.
        """
        if math.isfinite(release.epsilon) and not math.isfinite(self.guarantee.epsilon):
            return "was made without privacy, and this release has some to keep"
        if math.isfinite(release.epsilon) and self.guarantee.unit != release.unit:
            return (
                f"keeps its ε for one {self.guarantee.unit} and this release for one {release.unit}: "
                "the two cannot be summed"
            )
        if not self.task.has_words:
            return "is not read by label words, and prompts are compared by theirs"
        if self.prompt.model.digest != target.digest:
            return f"is a prompt of {self.prompt.model.name}, another target"
        if self.cohorts[0] == campaign:
            return "was made by this very campaign"
        return None


@dataclass(frozen=True, slots=True, eq=False)
class TransferInput:
    """The input of a transfer: a proxy's prompt, both models, the task and public texts."""

    prompt: SoftPrompt
    proxy: LanguageModel
    target: LanguageModel
    task: Task
    texts: tuple[str, ...]
    campaign: str
    guarantee: Guarantee

    def problem(self, settings: TransferSettings) -> Problem:
        """Return the problem of this transfer, with or without the library.

        Raises:
            UsageError, TaskError: see `transfer.post.transfer.transfer`.
        """
        return transfer_problem(self.prompt, self.proxy, self.target, self.task, self.texts, settings)


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarity of a library prompt to the new one; `transfer.panda.scores` has the equations.

    Attributes:
        effect: score A; None for a prompt of another proxy.
        alignment: score B.
        leep: score C.
        gradient: score D; None for a prompt of another length.
        paper: PANDA's own score; None for a prompt of another proxy or without texts. It decides nothing.
    """

    effect: float | None
    alignment: float
    leep: float
    gradient: float | None
    paper: float | None

    @property
    def strength(self) -> float:
        """ŝ in [0, 1]: weight of this prompt as a teacher; 0 for a dissimilar prompt."""
        return min(1.0, max(0.0, self.alignment if self.effect is None else self.effect))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library prompt in the table that explains a choice.

    Attributes:
        name: resource name of the version, or `NULL`.
        obstacle: why it is not eligible; None if it is.
        scores: its scores; None if it was not measured.
        probe: mean held-out loss after each round of the probe in which it took part.
    """

    name: str
    obstacle: str | None = None
    scores: Scores | None = None
    probe: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Held-out loss without the library minus that with it: paired mean and its standard error."""

    difference: float
    error: float

    @staticmethod
    def of(without: torch.Tensor, used: torch.Tensor) -> "Comparison":
        """Compare losses of the same n ≥ 2 texts, [n] and [n]."""
        gains = without - used
        return Comparison(gains.mean().item(), gains.std().item() / math.sqrt(len(gains)))

    @property
    def won(self) -> bool:
        """Whether the library gains more than one standard error."""
        return self.difference > self.error


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A transfer that compared the prompts of the library.

    Attributes:
        transferred: the result; `plain` itself if no library prompt won.
        plain: the transfer without the library.
        candidates: the null candidate first, then every record, eligible or not.
        finalist: name of the library prompt that went through a whole transfer; None if none was eligible.
        start: name of the candidate whose prompt the finalist's transfer started from: the finalist or `NULL`.
        comparison: comparison of the two transfers on held-out text; None without a finalist.
    """

    transferred: Transferred
    plain: Transferred
    candidates: tuple[Candidate, ...]
    finalist: str | None = None
    start: str | None = None
    comparison: Comparison | None = None

    @property
    def chosen(self) -> str | None:
        """Name of the library prompt in use; None if there is none."""
        return self.finalist if self.comparison and self.comparison.won else None

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        if self.comparison is None:
            return "no eligible library prompt: transferred without one"
        gain = (
            f"gains {self.comparison.difference:+.3g} ± {self.comparison.error:.2g} on held-out public text"
        )
        if self.chosen:
            return f"{self.chosen} is used: it {gain}"
        return f"no library prompt is used: {self.finalist} {gain}, not above one standard error"


def shortlist(scores: Mapping[str, Scores]) -> list[str]:
    """Return the candidates by mean rank over those of the scores A to D that they have, best first."""
    ranks: dict[str, list[int]] = {name: [] for name in scores}
    for score in ("effect", "alignment", "leep", "gradient"):
        known = {name: value for name in scores if (value := getattr(scores[name], score)) is not None}
        for rank, name in enumerate(sorted(known, key=known.__getitem__, reverse=True)):
            ranks[name].append(rank)
    return sorted(scores, key=lambda name: sum(ranks[name]) / len(ranks[name]))
