"""The clients of one round: what each is asked, whose answers hold, and what is written down about them.

An answer is written down the moment it comes, so a coordinator that is killed in mid-round asks only those
again whose prompt it does not have yet.
"""

import logging
from collections.abc import Callable

from coordinator.home.identity import Identity
from coordinator.rounds.fleet import Fleet, Outcome
from coordinator.rounds.question import Question, enrolled
from coordinator.rounds.replies import read, standing
from coordinator.store.records import RELEASED
from coordinator.store.store import Store
from transfer.errors import VerificationError
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Release, round_name
from transfer.protocol.signing import REQUEST_TYPE, sign

logger = logging.getLogger(__name__)


class Cohort:
    """Asks every client on a question's roster that is still enrolled, and keeps what holds.

    Attributes:
        releases: valid releases by client, those of an earlier, interrupted attempt included.
    """

    def __init__(self, store: Store, identity: Identity, question: Question) -> None:
        self._store, self._identity, self._question = store, identity, question
        asked = set(question.roster.keys)
        self.clients = {client.name: client for client in enrolled(store) if client.signing_key in asked}
        self._requests = {name: question.to(name, identity) for name in self.clients}
        self.releases = standing(store, identity, question, store.replies(question.plan.name, question.index))

    def ask(self, fleet: Fleet, stopping: Callable[[], bool], on_answer: Callable[[str], None]) -> None:
        """Ask those whose release is missing, until all answered, the plan's deadline, or `stopping`.

        `on_answer` is told the name of each client that answered, after its answer was written down.
        """
        missing = {name: self._sealed(name) for name in self.clients if name not in self.releases}

        def hear(name: str, outcome: Outcome) -> None:
            if outcome.error != "not_awaited":  # nobody waited for it: that says nothing about the client
                self.hear(name, outcome)
            if outcome.reply is not None:
                on_answer(name)

        fleet.exchange(
            missing,
            deadline_s=self._question.plan.deadline_s,
            quorum=lambda _outcomes: stopping(),
            on_outcome=hear,
            on_late=self.hear,
        )

    def hear(self, name: str, outcome: Outcome) -> None:
        """Write down what came of asking a client; the store says whether it counts."""
        plan, index, envelope = self._question.plan, self._question.index, outcome.reply
        text, release = (outcome.error or "", None) if envelope is None else self._judge(name, envelope)
        recorded = self._store.record_reply(plan.name, index, name, text, envelope)
        told = round_name(plan.name, index), name, text
        if recorded.reason and envelope is not None:
            logger.warning("%s: %s: %s, not counted: %s", *told, recorded.reason)
            return
        logger.info("%s: %s: %s", *told)
        if release is not None:
            self.releases[name] = release

    def _judge(self, name: str, envelope: bytes) -> tuple[str, Release | None]:
        """The outcome a reply amounts to, and the release if it is one that holds."""
        try:
            reply = read(envelope, self.clients[name], self._requests[name])
        except VerificationError as error:
            return f"invalid: {error}", None
        if isinstance(reply, Decline):
            return f"declined: {reply.refusal.name.lower()}", None
        return RELEASED, reply

    def _sealed(self, name: str) -> bytes:
        payload = round_wire.request_to_bytes(self._requests[name])
        return wire.envelope_to_bytes(sign(payload, REQUEST_TYPE, self._identity.publisher))
