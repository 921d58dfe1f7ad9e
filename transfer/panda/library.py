"""The library's values: earlier tasks' prompts, what is found out about each, and how one was chosen or not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.post.transfer import Transferred, transfer_problem
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

NULL = "none"
"""The candidate that uses no library: always in, and the one to beat."""


@dataclass(frozen=True, slots=True, eq=False)
class LibraryRecord:
    """A published prompt and what it takes to compare it with a new one.

    Attributes:
        name: resource name of the version.
        prompt: of the target.
        proxy_prompt: of the proxy it was tuned on.
        texts: public examples of its own task for PANDA's own score; may be none.
        cohorts: campaigns whose data owners it was learnt from, its own first.
        guarantee: (ε, δ) of the data owner who paid most; ε is ∞ without privacy.
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
        """Why a release of `campaign` may not use this prompt, or None."""
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
    """A proxy's prompt on its way to a target, and the public texts it is carried over with."""

    prompt: SoftPrompt
    proxy: LanguageModel
    target: LanguageModel
    task: Task
    texts: tuple[str, ...]
    campaign: str
    guarantee: Guarantee

    def problem(self, settings: TransferSettings) -> Problem:
        """What carrying it over means, library or not.

        Raises:
            UsageError, TaskError: see `transfer.post.transfer.transfer`.
        """
        return transfer_problem(self.prompt, self.proxy, self.target, self.task, self.texts, settings)


@dataclass(frozen=True, slots=True)
class Scores:
    """How alike a library prompt is to the new one; `transfer.panda.scores` has the equations.

    Attributes:
        effect: score A; None across proxies.
        alignment: score B.
        leep: score C.
        gradient: score D; None for another length.
        paper: PANDA's own; None across proxies or without the prompt's own texts. Never decides anything.
    """

    effect: float | None
    alignment: float
    leep: float
    gradient: float | None
    paper: float | None

    @property
    def strength(self) -> float:
        """ŝ in [0, 1]: the say of this prompt as a teacher. Unlike prompts have none, never a negative one."""
        return min(1.0, max(0.0, self.alignment if self.effect is None else self.effect))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library prompt in the table that explains a choice.

    Attributes:
        obstacle: why it was not eligible, None if it was; without eligibility nothing was measured.
        probe: mean held-out loss after each round of the probe it took part in.
    """

    name: str
    obstacle: str | None = None
    scores: Scores | None = None
    probe: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Held-out loss without the library minus with it: paired mean, and its standard error."""

    difference: float
    error: float

    @staticmethod
    def of(without: torch.Tensor, used: torch.Tensor) -> "Comparison":
        """Compare losses of the same n ≥ 2 texts, [n] and [n]."""
        gains = without - used
        return Comparison(gains.mean().item(), gains.std().item() / math.sqrt(len(gains)))

    @property
    def won(self) -> bool:
        """Better by more than one standard error."""
        return self.difference > self.error


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A transfer for which the library was asked.

    Attributes:
        transferred: the result; the very same as `plain` if nothing was chosen.
        plain: POST without the library.
        candidates: the null candidate first, then every record, eligible or not.
        finalist: the library prompt that went through the whole transfer.
        start: name of the candidate the finalist's transfer began at: its own, or the null one's.
        comparison: of the two transfers on held-out text; None without a finalist.
    """

    transferred: Transferred
    plain: Transferred
    candidates: tuple[Candidate, ...]
    finalist: str | None = None
    start: str | None = None
    comparison: Comparison | None = None

    @property
    def chosen(self) -> str | None:
        """Name of the library prompt that was used."""
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
    """The candidates by mean rank over the scores A to D they have, best first."""
    ranks: dict[str, list[int]] = {name: [] for name in scores}
    for score in ("effect", "alignment", "leep", "gradient"):
        known = {name: value for name in scores if (value := getattr(scores[name], score)) is not None}
        for rank, name in enumerate(sorted(known, key=known.__getitem__, reverse=True)):
            ranks[name].append(rank)
    return sorted(scores, key=lambda name: sum(ranks[name]) / len(ranks[name]))
