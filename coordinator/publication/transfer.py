"""From the proxy to the target: the aggregate is transferred, and compared, on public text alone."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings, chosen
from coordinator.publication.library import Contribution, LibraryEntry, composed, consulted
from coordinator.publication.proxies import load_proxy
from coordinator.rounds.history import History, read_history
from coordinator.rounds.plan import NO_LIBRARY, CampaignPlan
from coordinator.store.store import Store
from transfer.errors import VerificationError
from transfer.files.public_text import read_texts
from transfer.model_ref import LmHead, ModelRef
from transfer.models.language_model import LanguageModel, load
from transfer.panda.library import Choice, TransferInput
from transfer.panda.selection import transfer_with_library
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt

logger = logging.getLogger(__name__)
TRANSFERRED, START, DIRECT, RANDOM = "transferred", "start", "direct", "random"
PLAIN = "without library"


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """A prompt on the other side.

    Attributes:
        prompt: of the target.
        proxy: the model it was tuned on.
        lm_head: how the target is read.
        losses: held-out transfer loss of the transferred prompt, of the plain transfer's start, of a random
            prompt, of the proxy's own vectors where the widths are equal, and of the plain transfer where a
            library prompt was used.
        best_step: step the prompt was taken from.
        settings: how it was transferred, α a number.
        texts: number of public texts, `texts_digest` the SHA-256 of their file.
        choice: how the library had a say, None if it was not asked; `books` are those it was chosen among.
    """

    prompt: SoftPrompt
    proxy: ModelRef
    lm_head: LmHead
    losses: Mapping[str, float]
    best_step: int
    settings: TransferSettings
    texts: int
    texts_digest: str
    choice: Choice | None
    books: tuple[LibraryEntry, ...]

    @property
    def shortcoming(self) -> str | None:
        """Why the prompt is not worth publishing, or None if it beats every baseline on held-out text."""
        ours = self.losses[TRANSFERRED]
        beaten_by = [
            f"{name} {loss:.4g}"
            for name, loss in self.losses.items()
            if name != TRANSFERRED and not ours < loss
        ]
        if not beaten_by:
            return None
        return (
            f"held-out public loss {ours:.4g} of the transferred prompt is not below {', '.join(beaten_by)}"
        )

    @property
    def summary(self) -> str:
        """The losses in one line."""
        return ", ".join(f"{name} {loss:.4g}" for name, loss in self.losses.items())


def cross(
    history: History,
    proxy: LanguageModel,
    target: LanguageModel,
    plan: CampaignPlan,
    books: Sequence[LibraryEntry] = (),
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Crossing:
    """Transfer a campaign's prompt to `target` as the plan says, and measure it beside its baselines.

    Raises:
        DataError: the public text cannot be read.
        UsageError: it is too little.
        TaskError: the label words do not fit one of the tokenisers.
    """
    path, prompt = Path(plan.public_text), history.prompt
    texts = tuple(read_texts(path))
    guarantee = composed([Contribution.of(plan, history)])
    new = TransferInput(prompt, proxy, target, plan.task, texts, plan.name, guarantee)
    problem = new.problem(plan.transfer)
    choice = transfer_with_library(new, problem, [book.record for book in books], on_step)
    moved, without = choice.transferred, choice.plain
    generator = torch.Generator().manual_seed(plan.transfer.seed)
    baselines = {RANDOM: target.vocabulary_prompt(prompt.length, generator)}
    if prompt.width == target.width:
        baselines[DIRECT] = SoftPrompt(prompt.vectors, target.ref)
    losses = {TRANSFERRED: moved.held_out_loss, START: without.start_loss}
    losses |= {name: problem.held_out_loss(item.vectors) for name, item in baselines.items()}
    if choice.chosen:
        losses[PLAIN] = without.held_out_loss
    return Crossing(
        prompt=moved.prompt,
        proxy=proxy.ref,
        lm_head=target.lm_head,
        losses=losses,
        best_step=moved.best_step,
        settings=moved.settings,
        texts=len(texts),
        texts_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        choice=None if plan.library == NO_LIBRARY else choice,
        books=tuple(books),
    )


def carried(
    store: Store, identity: Identity, plan: CampaignPlan, default: TargetSettings, on_step: OnStep
) -> tuple[History, Crossing]:
    """A campaign's rounds and its prompt on the plan's target, or on `default` if the plan names none.

    Raises:
        UsageError: a round is missing, or the library prompt the plan names may not be used.
        NotFoundError: there is no such library prompt.
        VerificationError: the rounds do not hold, or the prompt is not worth publishing.
    """
    history = read_history(store, identity, plan)
    settings = chosen(plan.target, default)
    target = load(settings.source, name=settings.name or None)
    release = composed([Contribution.of(plan, history)])
    books = consulted(plan, store, identity, target.ref, release)
    crossing = cross(history, load_proxy(store.proxy(plan.proxy)), target, plan, books, on_step)
    logger.info("campaign %s: held-out public loss: %s", plan.name, crossing.summary)
    if crossing.choice:
        logger.info("campaign %s: library: %s", plan.name, crossing.choice.verdict)
    if plan.publish.require_improvement and crossing.shortcoming:
        raise VerificationError(f"not published: {crossing.shortcoming}")
    return history, crossing
