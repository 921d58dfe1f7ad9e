"""The history of a campaign's rounds, read from the store and verified again.

Nothing comes from a summary. `read_history` checks every signature again and computes every aggregate again from
the replies as they arrived. It refuses a round whose stored prompt is not that aggregate.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.home.identity import Identity
from coordinator.rounds.plan import CampaignPlan
from coordinator.rounds.replies import standing
from coordinator.rounds.round_spec import RoundSpec
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import Round, RoundState
from coordinator.store.store import Store
from transfer.errors import UsageError, VerificationError
from transfer.privacy import Guarantee, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Release, round_name


@dataclass(frozen=True, slots=True)
class RoundHistory:
    """One closed round: SHA-256 of its start and of its result, the strategy, and the clients counted and dropped."""

    name: str
    start: str
    prompt: str
    strategy: str
    counted: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Retraced:
    """A closed round computed again: its history, its releases by client, and its resulting prompt."""

    history: RoundHistory
    releases: Mapping[str, Release]
    prompt: SoftPrompt


@dataclass(frozen=True, slots=True)
class ClientCost:
    """Privacy cost of a campaign for one client's data set.

    Attributes:
        rounds: number of rounds in which the client released a prompt.
        campaign: composition of those rounds' spends at the plan's δ.
        lifetime: largest guarantee that the client stated for its data set's whole life.
    """

    client: str
    rounds: int
    campaign: Guarantee
    lifetime: Guarantee


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A campaign's closed rounds, the resulting prompt of the last one, and the cost by client.

    `library` names the published versions that taught the first start.
    """

    rounds: tuple[RoundHistory, ...]
    prompt: SoftPrompt
    costs: tuple[ClientCost, ...]
    library: tuple[str, ...] = ()


def read_history(store: Store, identity: Identity, plan: CampaignPlan) -> History:
    """Return the history of a campaign whose rounds are all closed.

    Raises:
        UsageError: a round is not closed yet.
        VerificationError: a stored reply does not verify, or a stored prompt is not the aggregate.
    """
    closed = [item for item in store.rounds(plan.name) if item.state is RoundState.CLOSED]
    if len(closed) < plan.rounds:
        raise UsageError(
            f"campaign {plan.name!r} has closed {len(closed)} of {plan.rounds} rounds: nothing to publish"
        )
    server = ServerOptimizer(plan.strategy, plan.server)
    rounds = [retrace(store, identity, plan, item, server) for item in closed]
    releases: dict[str, list[Release]] = {}
    for item in rounds:
        for client, release in item.releases.items():
            releases.setdefault(client, []).append(release)
    costs = tuple(_cost(client, releases[client], plan.delta) for client in sorted(releases))
    return History(tuple(item.history for item in rounds), rounds[-1].prompt, costs, closed[0].library)


def retrace(
    store: Store, identity: Identity, plan: CampaignPlan, item: Round, server: ServerOptimizer
) -> Retraced:
    """Compute a closed round again from its replies.

    Args:
        store: holds the proxy's record and the replies.
        identity: derives the nonces of the requests.
        plan: the campaign's plan.
        item: the closed round.
        server: has closed every earlier round of the campaign, and closes this one.

    Raises:
        VerificationError: a stored reply does not verify, or the stored prompt is not the aggregate.
    """
    proxy = store.proxy(plan.proxy).model
    replies = store.replies(plan.name, item.index)
    releases = standing(store, identity, RoundSpec.of(plan, item, proxy), replies)
    start = SoftPrompt.from_bytes(item.start_prompt, proxy)
    result = server.close({client: release.prompt for client, release in releases.items()}, start)
    content = result.prompt.to_bytes()
    name = round_name(plan.name, item.index)
    if content != item.prompt:
        raise VerificationError(f"{name}: the stored prompt is not the aggregate of the stored replies")
    history = RoundHistory(
        name=name,
        start=hashlib.sha256(item.start_prompt).hexdigest(),
        prompt=hashlib.sha256(content).hexdigest(),
        strategy=result.strategy,
        counted=result.counted,
        dropped=tuple(result.dropped),
    )
    return Retraced(history, releases, result.prompt)


def _cost(client: str, releases: Sequence[Release], delta: float) -> ClientCost:
    spends = [release.spend for release in releases]
    lifetime = max((release.guarantee for release in releases), key=lambda guarantee: guarantee.epsilon)
    campaign = Guarantee(epsilon(spends, delta), delta, spends[0].unit)
    return ClientCost(client, len(releases), campaign, lifetime)
