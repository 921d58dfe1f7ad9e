"""What a campaign's plan needs, for its commands; see `coordinator.publication.sizing`."""

from typing import Any

from coordinator.commands.session import Session
from coordinator.publication.sizing import of_plan
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.store import Store
from transfer.errors import ModelError
from transfer.terminal import console
from transfer.terminal.needs import values


def of_campaign(session: Session, store: Store, plan: CampaignPlan) -> dict[str, Any]:
    """Return the `values` of what a plan needs of the coordinator and of each client.

    A target that cannot be sized is no reason to refuse a plan that `launch` accepts, and gives no needs.
    """
    try:
        return values(of_plan(plan, store.proxy(plan.proxy), session.config().target))
    except ModelError as error:
        console.say(f"not sized: {error}")
        return values([])
