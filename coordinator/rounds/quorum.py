"""The aggregate of a round, if at least the plan's `min_clients` of its stored replies count, or why there is none.

The deadline is enforced earlier: `coordinator.rounds.cohort.Cohort.ask` passes the plan's `deadline_s` to the fleet's
`exchange` (`coordinator.flower.federation`), which then waits no longer. What was stored until then is counted here.
"""

from collections.abc import Mapping, Sequence

from coordinator.home.identity import Identity
from coordinator.rounds.aggregation import Aggregate
from coordinator.rounds.replies import standing
from coordinator.rounds.round_spec import RoundSpec
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import ReplyRecord
from coordinator.store.store import Store
from transfer.errors import DeadlineError


def aggregate(
    store: Store,
    identity: Identity,
    spec: RoundSpec,
    replies: Sequence[ReplyRecord],
    server: ServerOptimizer,
) -> Aggregate:
    """Return the aggregate of the releases among `replies`.

    Args:
        store: holds the clients' keys.
        identity: derives the nonces of the requests.
        spec: what the round asks for.
        replies: the stored replies of the round.
        server: has closed every earlier round of the campaign, and closes this one.

    Raises:
        DeadlineError: fewer than the plan's `min_clients` prompts count; the message names each client's outcome.
        VerificationError: a stored release no longer verifies.
    """
    releases = standing(store, identity, spec, replies)
    prompts = {client: release.prompt for client, release in releases.items()}
    result = server.close(prompts, spec.start) if prompts else None
    if result is None or len(result.counted) < spec.plan.min_clients:
        raise DeadlineError(
            f"round {spec.index}: {len(result.counted) if result else 0} valid prompts, "
            f"the plan's min_clients is {spec.plan.min_clients} "
            f"({_reasons(replies, result.dropped if result else {})})"
        )
    return result


def _reasons(replies: Sequence[ReplyRecord], dropped: Mapping[str, str]) -> str:
    reasons = {reply.client: reply.outcome for reply in replies} | dict(dropped)
    return ", ".join(f"{client}: {reasons[client]}" for client in sorted(reasons)) or "nobody answered"
