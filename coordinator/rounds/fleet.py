"""The clients of a coordinator as a round sees them: bytes to each by name, and one outcome from each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of asking one node: its reply, or a fixed word for why there is none.

    `error` is one of
        offline                 the node never connected
        node_unavailable        it disconnected and did not reconnect in time
        timeout                 it received the request and did not reply in time
        not_awaited             the exchange ended without waiting for it
        malformed_request       it could not parse the request
        malformed_reply         its message is not a reply, or arrived under another node's name
        client_error:CLASS      it replied with an exception of that class
    """

    reply: bytes | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.reply is None) == (self.error is None):
            raise ValueError("an outcome is either a reply or an error")


OnOutcome = Callable[[str, Outcome], None]
"""Receives a node's name and its outcome."""

IsOver = Callable[[dict[str, Outcome]], bool]
"""Returns, for the outcomes so far by name, whether to stop waiting before the deadline."""


def ignore(_name: str, _outcome: Outcome) -> None:
    """Do nothing with an outcome."""


class Fleet(Protocol):
    """Exchanges bytes with clients by name; in production, `coordinator.flower.federation.Federation`."""

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        is_over: IsOver | None = None,
        on_outcome: OnOutcome,
        on_late: OnOutcome,
    ) -> dict[str, Outcome]:
        """Ask every named client and return one outcome for each; stop waiting when `is_over` returns true.

        A reply that arrives after the exchange goes to `on_late`, during a later `exchange` or `listen`.
        """

    def listen(self) -> None:
        """Receive replies that arrived too late for their exchange."""
