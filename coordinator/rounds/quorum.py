"""From the replies that stand in the store to a round's aggregate, or why there is none."""

from collections.abc import Mapping, Sequence

from coordinator.home.identity import Identity
from coordinator.rounds.aggregation import Aggregate
from coordinator.rounds.question import Question
from coordinator.rounds.replies import standing
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import ReplyRecord
from coordinator.store.store import Store
from transfer.errors import DeadlineError


def aggregate(
    store: Store,
    identity: Identity,
    question: Question,
    replies: Sequence[ReplyRecord],
    server: ServerOptimizer,
) -> Aggregate:
    """The aggregate of the releases among `replies`; `server` has closed the rounds before.

    Raises:
        DeadlineError: they are fewer than the plan's `min_clients`; says what became of each client.
        VerificationError: a stored release is not what it was when it came.
    """
    releases = standing(store, identity, question, replies)
    prompts = {client: release.prompt for client, release in releases.items()}
    made = server.close(prompts, question.start) if prompts else None
    if made is None or len(made.counted) < question.plan.min_clients:
        raise DeadlineError(
            f"round {question.index}: {len(made.counted) if made else 0} valid prompts, the plan's min_clients is "
            f"{question.plan.min_clients} ({_reasons(replies, made.dropped if made else {})})"
        )
    return made


def _reasons(replies: Sequence[ReplyRecord], dropped: Mapping[str, str]) -> str:
    told = {reply.client: reply.outcome for reply in replies} | dict(dropped)
    return ", ".join(f"{client}: {told[client]}" for client in sorted(told)) or "nobody answered"
