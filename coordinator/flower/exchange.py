"""State of one exchange: which nodes got their request, which replied, and which need it again."""

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from coordinator.rounds.fleet import OnOutcome, Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presence:
    """An online node and the time of its sign-on; after a later sign-on it may have lost earlier messages."""

    node_id: int
    since: str


class Exchange:
    """One request for each named node, and one outcome from each.

    Flower delivers a message once. A node that pulled it and then restarted, or lost its connection, never
    receives it again, and Flower does not always report that. Therefore a request is sent once for every sign-on
    of its node until the node replies. Nodes reply to the same request with the same bytes.
    """

    def __init__(self, requests: Mapping[str, bytes]) -> None:
        self.requests = dict(requests)
        self.outcomes: dict[str, Outcome] = {}
        self._sent: dict[str, tuple[str, int]] = {}  # message id: node name and id
        self._sign_ons: dict[str, Presence] = {}  # the sign-on to which the request was sent
        self._lost: set[str] = set()
        self._seen: set[str] = set()

    @property
    def unanswered(self) -> set[str]:
        """Names without an outcome."""
        return self.requests.keys() - self.outcomes.keys()

    @property
    def node_ids(self) -> set[int]:
        """Nodes that may still reply."""
        return {node_id for _, node_id in self._sent.values()}

    @property
    def message_ids(self) -> set[str]:
        """Messages that may still get a reply."""
        return set(self._sent)

    def due(self, online: Mapping[str, Presence]) -> dict[str, Presence]:
        """Return the nodes that need their request now."""
        return {
            name: online[name]
            for name in sorted(self.unanswered & online.keys())
            if self._sign_ons.get(name) != online[name]
        }

    def sent(self, message_id: str, name: str, presence: Presence) -> None:
        """Record that a request was sent."""
        self._sent[message_id] = name, presence.node_id
        self._sign_ons[name] = presence
        self._lost.discard(name)
        self._seen.add(name)

    def lost(self, message_id: str) -> str | None:
        """Record that a message will get no reply, and return the node that needs it again, if any."""
        name, _ = self._sent.pop(message_id, (None, 0))
        if name is None or name in self.outcomes:
            return None
        self._sign_ons.pop(name, None)
        self._lost.add(name)
        return name

    def forget(self) -> None:
        """Record that all sent messages are lost."""
        for message_id in list(self._sent):
            self.lost(message_id)

    def settle(self, message_id: str, source: int, outcome: Outcome) -> str | None:
        """Record a node's outcome, and return its name if the outcome is new.

        A reply counts only if it belongs to a message of this exchange and is the node's first. A reply under
        another node's id is a malformed one.
        """
        name, node_id = self._sent.pop(message_id, (None, 0))
        if name is None or name in self.outcomes:
            return None
        self.outcomes[name] = outcome if source == node_id else Outcome(error="malformed_reply")
        return name

    def overdue(self, withdrawn: Collection[str]) -> "Exchange":
        """Return the state of late replies from nodes without an outcome; nothing more is sent to them.

        Args:
            withdrawn: ids of messages that no node will ever receive.
        """
        rest = Exchange({name: self.requests[name] for name in self.unanswered})
        rest._sent = {
            message_id: (name, node_id)
            for message_id, (name, node_id) in self._sent.items()
            if name in rest.requests and message_id not in withdrawn
        }
        return rest

    def end(self, *, in_time: bool) -> Iterable[str]:
        """Record an error for every node without an outcome, and return those nodes' names."""
        for name in sorted(self.unanswered):
            if in_time:
                error = "not_awaited"
            elif name in self._lost:
                error = "node_unavailable"
            else:
                error = "timeout" if name in self._seen else "offline"
            self.outcomes[name] = Outcome(error=error)
            yield name


@dataclass(frozen=True, slots=True)
class Awaited:
    """An exchange whose nodes may still reply.

    Attributes:
        exchange: state of the exchange.
        on_outcome: receives each new outcome.
        until: end of the wait, in seconds of `time.monotonic`.
    """

    exchange: Exchange
    on_outcome: OnOutcome
    until: float = math.inf

    @property
    def is_alive(self) -> bool:
        """Whether a reply may still arrive."""
        return bool(self.exchange.message_ids) and time.monotonic() < self.until

    def note(self, message_id: str, source: int, outcome: Outcome | None) -> None:
        """Record the outcome of a message, None for a lost one, and pass it on if it is new."""
        if outcome is None:
            if (lost := self.exchange.lost(message_id)) is not None:
                logger.info("node %s lost its request; it is asked again if it is back in time", lost)
        elif (name := self.exchange.settle(message_id, source, outcome)) is not None:
            self.on_outcome(name, self.exchange.outcomes[name])
