"""What campaigns cost their data owners, and the sum over the campaigns behind a prompt."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.rounds.history import History
from coordinator.rounds.plan import CampaignPlan
from transfer.errors import UsageError
from transfer.privacy import Guarantee
from transfer.protocol.prompt_lineage import CohortV1, CostV1
from transfer.protocol.prompt_statement import PromptStatement


@dataclass(frozen=True, slots=True)
class Contribution:
    """Privacy cost of one campaign for each of its data owners."""

    campaign: str
    costs: Mapping[str, Guarantee]

    @staticmethod
    def of(plan: CampaignPlan, history: History) -> "Contribution":
        """Return the contribution of the campaign to publish."""
        return Contribution(plan.name, {cost.client: cost.campaign for cost in history.costs})

    @staticmethod
    def stated(statement: PromptStatement) -> "tuple[Contribution, ...]":
        """Return the contributions behind a published prompt: its own campaign first, then the inherited ones."""
        unit = statement.privacy.unit
        own = {item.client: Guarantee(item.epsilon, item.delta, unit) for item in statement.privacy.clients}
        lineage = statement.lineage
        cohorts = (*lineage.start.cohorts, *(lineage.library.cohorts if lineage.library else ()))
        older = (
            Contribution(item.campaign, {client: cost.guarantee for client, cost in item.costs.items()})
            for item in cohorts
        )
        return (Contribution(statement.campaign, own), *older)

    @property
    def cohort(self) -> CohortV1:
        """The contribution in the form of a later prompt's statement."""
        costs = {client: CostV1.of(cost) for client, cost in self.costs.items()}
        return CohortV1(campaign=self.campaign, costs=costs)


def each_once(contributions: Iterable[Contribution]) -> list[Contribution]:
    """Return the contributions, each campaign once."""
    return list({item.campaign: item for item in contributions}.values())


def composed(contributions: Iterable[Contribution]) -> Guarantee:
    """Return the largest ε and the largest δ that a data owner spent over all campaigns.

    Guarantee:
        Basic composition: ε and δ are each summed over the campaigns a client took part in, each campaign once.
        A client counts as one data owner under one name. The maxima of ε and δ may come from two clients, so
        the pair bounds every client.

    Edge cases:
        A campaign without noise: ε is ∞. Different units: refused if the sum is finite; if it is ∞, the result
        has the unit of the last contribution.

    Raises:
        UsageError: the sum is finite and the campaigns protect different units.
    """
    given = list(contributions)
    spent: dict[str, list[Guarantee]] = defaultdict(list)
    for item in each_once(given):
        for client, cost in item.costs.items():
            spent[client].append(cost)
    units = [cost.unit for item in given for cost in item.costs.values()]
    whole = Guarantee(
        max(sum(cost.epsilon for cost in costs) for costs in spent.values()),
        max(sum(cost.delta for cost in costs) for costs in spent.values()),
        units[-1],  # the unit of the release itself, whose contribution is the last
    )
    if math.isfinite(whole.epsilon) and len(set(units)) > 1:
        raise UsageError(
            f"the campaigns protect different units ({', '.join(sorted(set(units)))}): their costs have no sum; "
            'choose library prompts of one unit, or library = "none"'
        )
    return whole
