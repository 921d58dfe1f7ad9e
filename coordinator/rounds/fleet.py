"""All clients of a coordinator as a round sees them: bytes to each by name, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking one node: its reply, or a fixed word for why there is none.

    `error` is one of
        offline                 the node was never there
        node_unavailable        it went away and did not come back in time
        timeout                 it was asked and did not answer in time
        not_awaited             the exchange ended without waiting for it
        malformed_request       it says that the request is not one
        malformed_reply         its answer is not a reply, or came under another node's name
        client_error:CLASS      its answer was an exception of that class
    """

    reply: bytes | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.reply is None) == (self.error is None):
            raise ValueError("an outcome is either a reply or an error")


OnOutcome = Callable[[str, Outcome], None]
"""Told what came of asking the node of that name."""

Quorum = Callable[[dict[str, Outcome]], bool]
"""Whether the outcomes so far, by name, are enough."""


def unheard(_name: str, _outcome: Outcome) -> None:
    """Nobody wants to be told."""


class Fleet(Protocol):
    """Carries bytes to clients by name and theirs back; `coordinator.flower.federation.Federation` in production."""

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: Quorum | None = None,
        on_outcome: OnOutcome,
        on_late: OnOutcome,
    ) -> dict[str, Outcome]:
        """Ask all, return one outcome for each; stop waiting when `quorum` says so.

        `on_late` is told what still comes of a client that was not heard in time, if anything, by a later
        `exchange` or `listen`.
        """

    def listen(self) -> None:
        """Hear what came too late for the exchange it belongs to."""
