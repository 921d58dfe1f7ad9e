"""Book-keeping of one exchange: who was asked, who answered, and who has to be asked again."""

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from coordinator.rounds.fleet import OnOutcome, Outcome

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presence:
    """A node that is online, and since when: a later sign-on means that it may have lost what it was sent."""

    node_id: int
    since: str


class Exchange:
    """One request for each named node, one outcome from each.

    Flower hands a message out once. A node that pulled it and then restarted, or lost its connection, never
    sees it again, and Flower does not always say so. Therefore a request is sent once for every sign-on of
    its node until the node has answered; nodes answer the same request with the same bytes.
    """

    def __init__(self, requests: Mapping[str, bytes]) -> None:
        self.requests = dict(requests)
        self.outcomes: dict[str, Outcome] = {}
        self._sent: dict[str, tuple[str, int]] = {}  # message id: node name and id
        self._asked: dict[str, Presence] = {}  # the sign-on that was sent the request
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
        """Messages that may still be replied to."""
        return set(self._sent)

    def due(self, online: Mapping[str, Presence]) -> dict[str, Presence]:
        """Return the nodes to send their request to now."""
        return {
            name: online[name]
            for name in sorted(self.unanswered & online.keys())
            if self._asked.get(name) != online[name]
        }

    def sent(self, message_id: str, name: str, presence: Presence) -> None:
        """Note that a request is on its way."""
        self._sent[message_id] = name, presence.node_id
        self._asked[name] = presence
        self._lost.discard(name)
        self._seen.add(name)

    def lost(self, message_id: str) -> str | None:
        """Note that nothing will come of a message, and return whose it was; it is due again."""
        name, _ = self._sent.pop(message_id, (None, 0))
        if name is None or name in self.outcomes:
            return None
        self._asked.pop(name, None)
        self._lost.add(name)
        return name

    def forget(self) -> None:
        """Note that all messages on their way are lost."""
        for message_id in list(self._sent):
            self.lost(message_id)

    def settle(self, message_id: str, source: int, outcome: Outcome) -> str | None:
        """Note what a node answered, and return its name if that is news.

        Only a message of this exchange counts, so no late reply to an earlier one does; only the first reply
        of a node counts; a reply under another node's id is none.
        """
        name, node_id = self._sent.pop(message_id, (None, 0))
        if name is None or name in self.outcomes:
            return None
        self.outcomes[name] = outcome if source == node_id else Outcome(error="malformed_reply")
        return name

    def overdue(self, withdrawn: Collection[str]) -> "Exchange":
        """Book-keeping of what may still come of nodes without an outcome; none of them is sent anything more.

        Args:
            withdrawn: ids of messages that no node will ever see.
        """
        rest = Exchange({name: self.requests[name] for name in self.unanswered})
        rest._sent = {
            message_id: (name, node_id)
            for message_id, (name, node_id) in self._sent.items()
            if name in rest.requests and message_id not in withdrawn
        }
        return rest

    def end(self, *, in_time: bool) -> Iterable[str]:
        """Give every unanswered node its error and return those nodes' names."""
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
        exchange: the book-keeping.
        tell: told each outcome.
        until: when it is given up, in seconds of `time.monotonic`.
    """

    exchange: Exchange
    tell: OnOutcome
    until: float = math.inf

    @property
    def is_alive(self) -> bool:
        """Whether anything may still come."""
        return bool(self.exchange.message_ids) and time.monotonic() < self.until

    def note(self, message_id: str, source: int, outcome: Outcome | None) -> None:
        """Note what came for a message, None if it is lost, and tell it if it is news."""
        if outcome is None:
            if (lost := self.exchange.lost(message_id)) is not None:
                logger.info("node %s lost its request; it is asked again if it is back in time", lost)
        elif (name := self.exchange.settle(message_id, source, outcome)) is not None:
            self.tell(name, self.exchange.outcomes[name])
