"""The clients of one round: the request to each, the verified replies, and the record of every outcome.

The store records a reply as soon as it arrives. A coordinator that is killed during a round therefore asks
again only the clients whose release is missing.
"""

import logging
from collections.abc import Callable

from coordinator.home.identity import Identity
from coordinator.rounds.fleet import Fleet, Outcome
from coordinator.rounds.replies import read, standing
from coordinator.rounds.round_spec import RoundSpec, enrolled
from coordinator.store.records import RELEASED
from coordinator.store.store import Store
from transfer.errors import VerificationError
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Release, round_name
from transfer.protocol.signing import REQUEST_TYPE, sign

logger = logging.getLogger(__name__)


class Cohort:
    """The enrolled clients on a round's roster, with their requests and their valid releases.

    Attributes:
        clients: clients to ask, by name.
        releases: valid releases by client, including those of an earlier, interrupted attempt.
    """

    def __init__(self, store: Store, identity: Identity, spec: RoundSpec) -> None:
        self._store, self._identity, self._spec = store, identity, spec
        roster = set(spec.roster.keys)
        self.clients = {client.name: client for client in enrolled(store) if client.signing_key in roster}
        self._requests = {name: spec.to(name, identity) for name in self.clients}
        self.releases = standing(store, identity, spec, store.replies(spec.plan.name, spec.index))

    def ask(self, fleet: Fleet, stopping: Callable[[], bool], on_answer: Callable[[str], None]) -> None:
        """Ask the clients whose release is missing, until all replied, the plan's deadline passed, or `stopping`.

        Args:
            fleet: carries the requests.
            stopping: whether to stop waiting; called repeatedly.
            on_answer: receives the name of each client that replied, after its reply was recorded.
        """
        missing = {name: self._signed(name) for name in self.clients if name not in self.releases}

        def on_outcome(name: str, outcome: Outcome) -> None:
            if (
                outcome.error != "not_awaited"
            ):  # the exchange ended early, which says nothing about the client
                self.record(name, outcome)
            if outcome.reply is not None:
                on_answer(name)

        fleet.exchange(
            missing,
            deadline_s=self._spec.plan.deadline_s,
            is_over=lambda _outcomes: stopping(),
            on_outcome=on_outcome,
            on_late=self.record,
        )

    def record(self, name: str, outcome: Outcome) -> None:
        """Record the outcome of a client in the store, which decides whether it counts."""
        plan, index, envelope = self._spec.plan, self._spec.index, outcome.reply
        text, release = (outcome.error or "", None) if envelope is None else self._judge(name, envelope)
        recorded = self._store.record_reply(plan.name, index, name, text, envelope)
        entry = round_name(plan.name, index), name, text
        if recorded.reason and envelope is not None:
            logger.warning("%s: %s: %s, not counted: %s", *entry, recorded.reason)
            return
        logger.info("%s: %s: %s", *entry)
        if release is not None:
            self.releases[name] = release

    def _judge(self, name: str, envelope: bytes) -> tuple[str, Release | None]:
        """Return the outcome as text, and the release if the reply is a valid one."""
        try:
            reply = read(envelope, self.clients[name], self._requests[name])
        except VerificationError as error:
            return f"invalid: {error}", None
        if isinstance(reply, Decline):
            return f"declined: {reply.refusal.name.lower()}", None
        return RELEASED, reply

    def _signed(self, name: str) -> bytes:
        payload = round_wire.request_to_bytes(self._requests[name])
        return wire.envelope_to_bytes(sign(payload, REQUEST_TYPE, self._identity.publisher))
