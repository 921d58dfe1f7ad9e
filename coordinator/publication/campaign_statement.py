"""The statement about a campaign's result: plan, rounds and transfer under the keys of the signed schema."""

from dataclasses import asdict

from coordinator.publication.contributions import Contribution, composed
from coordinator.publication.library import inherited, library_stated, start_stated
from coordinator.publication.transfer import TransferResult
from coordinator.rounds.history import ClientCost, History, RoundHistory
from coordinator.rounds.plan import CampaignPlan
from transfer.privacy import ADJACENCY, accountant_name
from transfer.protocol.prompt_lineage import (
    LineageV1,
    PublicTextV1,
    RoundV1,
    TransferV1,
    TriggersV1,
    TwinV1,
    WordingV1,
)
from transfer.protocol.prompt_statement import ClientV1, PerRoundV1, PrivacyV1, PromptStatement, TaskV1
from transfer.protocol.rounds import Tuning
from transfer.protocol.statement import ModelV1

NOT_PRIVATE = (
    "that a client took part, in which rounds, and how it declined",
    "when rounds were asked and answered",
    "the task: template, label names and label words",
    "the settings of tuning: steps, sample rate, noise, clipping norm, learning rate",
    "the public text and everything learnt from it",
)
"""Facts that the guarantee does not protect."""
SAMPLING = "Poisson"
NOISE = "discretised Gaussian, AES-256-CTR"


def campaign_statement(
    plan: CampaignPlan, history: History, result: TransferResult, version: int
) -> PromptStatement:
    """Return the statement to sign about a campaign's prompt.

    Raises:
        UsageError: the campaigns behind the prompt protect different units, so their costs have no sum.
    """
    return PromptStatement(
        prompt=plan.publish.prompt,
        version=version,
        task=TaskV1.of(plan.task),
        target=ModelV1.of(result.prompt.model),
        proxy=ModelV1.of(result.proxy),
        lm_head=result.lm_head,
        campaign=plan.name,
        rounds=plan.rounds,
        lineage=_lineage(plan, history, result),
        privacy=_privacy(plan, history, result),
        chat_line=result.chat_line,
    )


def _lineage(plan: CampaignPlan, history: History, result: TransferResult) -> LineageV1:
    choice = result.choice
    return LineageV1(
        start=start_stated(plan, result.taught_by),
        rounds=tuple(map(_round, history.rounds)),
        public_text=PublicTextV1(sha256=result.texts_digest, texts=result.texts),
        transfer=_transfer(result),
        held_out_loss=dict(result.losses),
        library=library_stated(plan.library, choice, result.entries) if choice else None,
        numbers=None if result.numbers == "float32" else result.numbers,
        twins=tuple(TwinV1(**asdict(twin)) for twin in result.twins),
        wording=WordingV1(**asdict(result.wording)) if result.wording else None,
        triggers=TriggersV1(**asdict(result.triggers)) if result.triggers else None,
    )


def _round(closed: RoundHistory) -> RoundV1:
    return RoundV1(
        name=closed.name,
        start=closed.start,
        prompt=closed.prompt,
        strategy=closed.strategy,
        counted=closed.counted,
        dropped=closed.dropped,
    )


def _transfer(result: TransferResult) -> TransferV1:
    settings = result.settings
    return TransferV1(
        alpha=float(settings.alpha),
        temperature=settings.temperature,
        space=settings.space,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        start=settings.start,
        held_out=settings.held_out,
        check_every=settings.check_every,
        seed=settings.seed,
        best_step=result.best_step,
        formats=settings.formats,
        imitate=settings.imitate,
        restarts=settings.restarts,
        length=settings.length,
    )


def _privacy(plan: CampaignPlan, history: History, result: TransferResult) -> PrivacyV1:
    older = [item for each in result.taught_by for item in each.contributions]
    older += inherited(result.choice, result.entries) if result.choice else []
    whole = composed([*older, Contribution.of(plan, history)])
    return PrivacyV1(
        unit=whole.unit,
        adjacency=ADJACENCY,
        epsilon=whole.epsilon,
        delta=whole.delta,
        accountant=accountant_name(),
        sampling=SAMPLING,
        noise=NOISE,
        per_round=_per_round(plan.tuning),
        clients=tuple(map(_client, history.costs)),
        not_private=NOT_PRIVATE,
    )


def _per_round(tuning: Tuning) -> PerRoundV1:
    return PerRoundV1(
        noise_multiplier=tuning.spend.noise_multiplier,
        sample_rate=tuning.spend.sample_rate,
        steps=tuning.spend.steps,
        unit=tuning.spend.unit,
        clip_norm=tuning.clip_norm,
    )


def _client(cost: ClientCost) -> ClientV1:
    return ClientV1(
        client=cost.client,
        rounds=cost.rounds,
        epsilon=cost.campaign.epsilon,
        delta=cost.campaign.delta,
        lifetime_epsilon=cost.lifetime.epsilon,
        lifetime_delta=cost.lifetime.delta,
    )
