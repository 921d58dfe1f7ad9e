"""A finished campaign's prompt carried over to another target: post-processing, so at no further ε."""

import logging

from coordinator.config import TargetSettings, chosen
from coordinator.crossing import Crossing, cross
from coordinator.history import History, read_history
from coordinator.identity import Identity
from coordinator.library import Contribution, composed, consulted
from coordinator.plan import CampaignPlan
from coordinator.proxies import load_proxy
from coordinator.publishing import publish
from coordinator.records import PromptVersion
from coordinator.store import Store
from transfer.errors import VerificationError
from transfer.models import load
from transfer.progress import OnStep

logger = logging.getLogger(__name__)


def retarget(
    store: Store,
    identity: Identity,
    plan: CampaignPlan,
    default: TargetSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> tuple[PromptVersion, Crossing]:
    """Carry the last aggregate of `plan`'s campaign over to the plan's target and publish the result.

    All rounds of the campaign are closed; target, public text and publication of the plan may be other ones
    than it was launched with. `default` is the target if the plan names none.

    Raises:
        UsageError: a round is missing, or the library prompt the plan names may not be used.
        NotFoundError: there is no such library prompt.
        VerificationError: the rounds do not hold, or the prompt is not worth publishing.
    """
    history, crossing = carried(store, identity, plan, default, on_step)
    return publish(store, identity, plan, history, crossing), crossing


def carried(
    store: Store, identity: Identity, plan: CampaignPlan, default: TargetSettings, on_step: OnStep
) -> tuple[History, Crossing]:
    """The same without publishing."""
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
