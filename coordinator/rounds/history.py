"""What a campaign's rounds did, read back from the store and verified anew.

Nothing is taken from a summary: signatures are checked again, every aggregate is computed again from the
replies as they arrived, and a round whose stored prompt is not that aggregate is refused.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.home.identity import Identity
from coordinator.rounds.plan import CampaignPlan
from coordinator.rounds.question import Question
from coordinator.rounds.replies import standing
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import Round, RoundState
from coordinator.store.store import Store
from transfer.errors import UsageError, VerificationError
from transfer.privacy import Guarantee, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Release, round_name


@dataclass(frozen=True, slots=True)
class RoundHistory:
    """One closed round: SHA-256 of the prompt it started from and of the one it made, and by whom."""

    name: str
    start: str
    prompt: str
    strategy: str
    counted: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Retraced:
    """A closed round computed again: what it did, by whose releases, and the prompt it made."""

    told: RoundHistory
    releases: Mapping[str, Release]
    prompt: SoftPrompt


@dataclass(frozen=True, slots=True)
class ClientCost:
    """What a campaign cost one client's data set.

    Attributes:
        rounds: rounds it released a prompt in.
        campaign: composition of those rounds' spends at the plan's δ.
        lifetime: the most the client itself stated for its data set's whole life.
    """

    client: str
    rounds: int
    campaign: Guarantee
    lifetime: Guarantee


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A campaign's closed rounds, the prompt the last one made, and the cost by client."""

    rounds: tuple[RoundHistory, ...]
    prompt: SoftPrompt
    costs: tuple[ClientCost, ...]


def read_history(store: Store, identity: Identity, plan: CampaignPlan) -> History:
    """The history of a campaign whose rounds are all closed.

    Raises:
        UsageError: a round is still missing.
        VerificationError: a stored reply or prompt is not what it should be.
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
    return History(tuple(item.told for item in rounds), rounds[-1].prompt, costs)


def retrace(
    store: Store, identity: Identity, plan: CampaignPlan, item: Round, server: ServerOptimizer
) -> Retraced:
    """Compute a closed round again, from its replies; `server` has closed those before it and closes this one.

    Raises:
        VerificationError: a stored reply or prompt is not what it should be.
    """
    proxy = store.proxy(plan.proxy).model
    replies = store.replies(plan.name, item.index)
    releases = standing(store, identity, Question.of(plan, item, proxy), replies)
    start = SoftPrompt.from_bytes(item.start_prompt, proxy)
    made = server.close({client: release.prompt for client, release in releases.items()}, start)
    content = made.prompt.to_bytes()
    name = round_name(plan.name, item.index)
    if content != item.prompt:
        raise VerificationError(f"{name}: the stored prompt is not the aggregate of the stored replies")
    told = RoundHistory(
        name=name,
        start=hashlib.sha256(item.start_prompt).hexdigest(),
        prompt=hashlib.sha256(content).hexdigest(),
        strategy=made.strategy,
        counted=made.counted,
        dropped=tuple(made.dropped),
    )
    return Retraced(told, releases, made.prompt)


def _cost(client: str, releases: Sequence[Release], delta: float) -> ClientCost:
    spends = [release.spend for release in releases]
    lifetime = max((release.guarantee for release in releases), key=lambda guarantee: guarantee.epsilon)
    campaign = Guarantee(epsilon(spends, delta), delta, spends[0].unit)
    return ClientCost(client, len(releases), campaign, lifetime)
