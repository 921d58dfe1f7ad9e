"""Transfer of a campaign's aggregate from the proxy to the target, and its comparison, on public text alone."""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings, chosen
from coordinator.publication.acceptance import require_improvement
from coordinator.publication.contributions import Contribution, composed
from coordinator.publication.library import LibraryEntry, Teacher, consulted, teachers
from coordinator.publication.proxies import load_proxy
from coordinator.publication.triggers import Scan, scan
from coordinator.rounds.history import History, read_history
from coordinator.rounds.plan import NO_LIBRARY, CampaignPlan
from coordinator.store.store import Store
from transfer.errors import ModelError
from transfer.files.public_text import digest_of, read_texts
from transfer.model_ref import LmHead, ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.panda.library import Choice, TransferInput
from transfer.panda.selection import Prepared, prepare
from transfer.placement.devices import numbers_of
from transfer.placement.settings import Quantised
from transfer.post.baselines import text_prompt
from transfer.post.settings import TransferSettings
from transfer.post.starts import PUBLIC_START, free_losses, taught
from transfer.post.twins import Answers, Twin
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.protocol.prompt_lineage import TRANSFERRED
from transfer.wording.sensitivity import Wording

logger = logging.getLogger(__name__)
START, DIRECT, RANDOM = "start", "direct", "random"
PLAIN = "without library"


@dataclass(frozen=True, slots=True, eq=False)
class TransferResult:
    """A prompt transferred to the target, with its measurements.

    Attributes:
        prompt: prompt of the target.
        proxy: model on which the clients tuned it.
        lm_head: kind of the target's language-model head.
        losses: held-out transfer loss by name: the transferred prompt, the plain transfer's start and a random
            prompt; the proxy's own vectors if the widths are equal; the plain transfer if a library prompt was
            used; where classes are compared by label words, what costs no privacy (`transfer.post.starts`).
        best_step: step of the transfer that gave the prompt.
        settings: settings of the transfer, with α as a number.
        texts: number of public texts.
        texts_digest: SHA-256 of the public text's file.
        choice: choice of a library prompt; None if the plan excludes the library.
        entries: library entries considered.
        taught_by: published prompts that taught the first round's start.
        numbers: what the target's weights were, see `transfer.placement.devices.numbers_of`.
        twins: change of the prompt's answers on quantised twins of the target.
        wording: answers in other formats of the question; None if nothing was measured.
        triggers: what the trigger scan found; None if there was none.
        chat_line: SHA-256 of what the target's chat template writes; None unless the task is a chat.
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
    entries: tuple[LibraryEntry, ...]
    numbers: str = "float32"
    twins: Sequence[Twin] = ()
    wording: Wording | None = None
    triggers: Scan | None = None
    chat_line: str | None = None
    taught_by: tuple[Teacher, ...] = ()

    @property
    def summary(self) -> str:
        """The losses in one line, and the share of answers that stay on each twin and in other formats."""
        parts = [f"{name} {loss:.4g}" for name, loss in self.losses.items()]
        parts += [f"in {twin.numbers} {twin.agreement:.1%} alike" for twin in self.twins]
        if self.wording:
            parts.append(f"in other formats {self.wording.prompted.agreement:.1%} alike")
        return ", ".join(parts)


def prepared(
    history: History,
    proxy: LanguageModel,
    target: LanguageModel,
    plan: CampaignPlan,
    entries: Sequence[LibraryEntry] = (),
) -> Prepared:
    """Ask `proxy` all that the transfer of a campaign's prompt to `target` has to know of it.

    Raises:
        DataError: the public text is not readable.
        UsageError: there is too little public text.
        TaskError: the label words do not fit one of the tokenisers.
    """
    texts = tuple(read_texts(Path(plan.public_text)))
    guarantee = composed([Contribution.of(plan, history)])
    new = TransferInput(history.prompt, proxy, target, plan.task, texts, plan.name, guarantee)
    return prepare(new, new.problem(plan.transfer), [entry.record for entry in entries])


def transfer_and_measure(
    history: History,
    prepared: Prepared,
    plan: CampaignPlan,
    entries: Sequence[LibraryEntry] = (),
    on_step: OnStep = lambda _step, _steps: None,
) -> TransferResult:
    """Transfer a campaign's prompt to the target by the plan's settings, and measure it against its baselines."""
    if free := plan.task.has_words and prepared.problem.words is not None:
        prepared = replace(prepared, problem=prepared.problem.asked())
    prompt, problem, target = history.prompt, prepared.problem, prepared.problem.target
    choice = prepared.solve(on_step)
    moved, without = choice.transferred, choice.plain
    generator = torch.Generator().manual_seed(plan.transfer.seed)
    baselines = {RANDOM: target.vocabulary_prompt(moved.prompt.length, generator)}
    if prompt.width == target.width:
        # the proxy's [P, H] fits the target as it is
        baselines[DIRECT] = SoftPrompt(prompt.vectors, target.ref)
    losses = {TRANSFERRED: moved.held_out_loss, START: without.start_loss}
    losses |= {name: problem.held_out_loss(item.vectors) for name, item in baselines.items()}
    if free:
        losses |= free_losses(problem)
        if plan.transfer.start == "public":
            losses[PUBLIC_START] = without.start_loss
        else:
            start = taught(problem, text_prompt(target, plan.task, moved.prompt.length), on_step)
            losses[PUBLIC_START] = problem.held_out_loss(start.vectors)
    if choice.chosen:
        losses[PLAIN] = without.held_out_loss
    return TransferResult(
        prompt=moved.prompt,
        proxy=prompt.model,
        lm_head=target.lm_head,
        losses=losses,
        best_step=moved.best_step,
        settings=moved.settings,
        texts=len(prepared.texts),
        texts_digest=digest_of(Path(plan.public_text)),
        choice=None if plan.library == NO_LIBRARY else choice,
        entries=tuple(entries),
        numbers=numbers_of(target.model),
        chat_line=chat.digest if (chat := target.encoder(plan.task).chat) else None,
    )


def load_target(target: TargetSettings) -> LanguageModel:
    """Load the target where its settings place it."""
    return load(target.source, name=target.name or None, placement=target.placement)


def measured_twins(target: TargetSettings, kinds: Sequence[Quantised], answers: Answers) -> list[Twin]:
    """Return what changes of a target's `answers` on its quantised twins, but for those that do not load."""
    twins = []
    for kind in kinds:
        try:
            twin = load_target(target.model_copy(update={"placement": target.placement.twin(kind)}))
        except ModelError as error:
            logger.warning("the prompt is not measured on the target's %s twin: %s", kind, error)
        else:
            twins.append(answers.compared(twin))
    return twins


def transfer_campaign(
    store: Store, identity: Identity, plan: CampaignPlan, default: TargetSettings, on_step: OnStep
) -> tuple[History, TransferResult]:
    """Return a campaign's history and its prompt on the plan's target, or on `default` if the plan names none.

    Raises:
        UsageError: a round is not closed, or the plan must not use its library prompt.
        NotFoundError: the plan's library prompt does not exist.
        VerificationError: a round does not verify, or the prompt does not beat its baselines.
    """
    history = read_history(store, identity, plan)
    taught_by = teachers(store, identity, plan, history.library)
    settings = chosen(plan.target, default)
    target = load_target(settings)
    release = composed([Contribution.of(plan, history)])
    entries = consulted(plan, store, identity, target.ref, release)
    proxy = load_proxy(store.proxy(plan.proxy), settings.placement)
    ready = prepared(history, proxy, target, plan, entries)
    del proxy  # its answers are cached; the target needs the memory
    gc.collect()  # modules of a model may refer to one another in circles
    result = transfer_and_measure(history, ready, plan, entries, on_step)
    logger.info("campaign %s: held-out public loss: %s", plan.name, result.summary)
    if result.choice:
        logger.info("campaign %s: library: %s", plan.name, result.choice.verdict)
    if plan.publish.require_improvement:
        require_improvement(result.losses)
    held_out = [ready.texts[index] for index in ready.problem.held_out]
    wording = Wording.of(target, plan.task, held_out, result.prompt, plan.publish.formats, plan.seed)
    triggers = (
        scan(target, plan.task, ready.texts, result.prompt, plan.seed) if plan.publish.triggers else None
    )
    if plan.publish.triggers and triggers is None:
        logger.warning("campaign %s: no trigger scan: too few public texts take another word", plan.name)
    result = replace(result, wording=wording, triggers=triggers, taught_by=taught_by)
    if others := [kind for kind in plan.publish.twins if kind != result.numbers]:
        answers = Answers.of(target, plan.task, held_out, result.prompt)
        del target, ready  # the twins need the room
        result = replace(result, twins=measured_twins(settings, others, answers))
    return history, result
