"""The clients of one round: what each is asked, whose answers hold, and what is written down about them.

An answer is written down the moment it comes, so a coordinator that is killed in mid-round asks only those
again whose prompt it does not have yet.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from coordinator.aggregation import gate
from coordinator.exchange import OnOutcome, Outcome
from coordinator.identity import Identity
from coordinator.plan import CampaignPlan
from coordinator.records import RELEASED, Client, ClientState, ReplyRecord, Round
from coordinator.store import Store
from transfer import round_wire, wire
from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.prompt import SoftPrompt
from transfer.roster import Roster
from transfer.rounds import Decline, Release, RoundRequest, nonce, round_name
from transfer.signing import REPLY_TYPE, REQUEST_TYPE, sign
from transfer.subspace import Subspace

logger = logging.getLogger(__name__)


class Fleet(Protocol):
    """Carries bytes to clients by name and theirs back; `coordinator.flower.Federation` in production."""

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: Callable[[dict[str, Outcome]], bool] | None = None,
        on_outcome: OnOutcome,
        on_late: OnOutcome,
    ) -> dict[str, Outcome]:
        """Ask all, return one outcome for each; stop waiting when `quorum` says so.

        `on_late` is told what still comes of a client that was not heard in time, if anything, by a later
        `exchange` or `listen`.
        """

    def listen(self) -> None:
        """Hear what came too late for the exchange it belongs to."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Round `index` of a campaign, the same for every client on the roster but for name and nonce."""

    plan: CampaignPlan
    index: int
    start: SoftPrompt
    roster: Roster
    subspace: Subspace | None = None

    @staticmethod
    def of(plan: CampaignPlan, opened: Round, proxy: ModelRef) -> "Question":
        """The question a round was opened with."""
        subspace = Subspace.from_bytes(opened.subspace) if opened.subspace else None
        start = SoftPrompt.from_bytes(opened.start_prompt, proxy)
        return Question(plan, opened.index, start, Roster.from_bytes(opened.roster), subspace)

    def to(self, client: str, identity: Identity) -> RoundRequest:
        """The request to one client; equal whenever the round is asked again."""
        name = round_name(self.plan.name, self.index)
        return RoundRequest(
            round=name,
            rounds=self.plan.rounds,
            client=client,
            nonce=nonce(identity.secret, name, client),
            task=self.plan.task,
            tuning=self.plan.tuning,
            prompt=self.start,
            cohort=self.plan.min_clients,
            roster=self.roster,
            subspace=self.subspace,
        )


class Cohort:
    """Asks every client on a question's roster that is still enrolled, and keeps what holds.

    Attributes:
        releases: valid releases by client, those of an earlier, interrupted attempt included.
    """

    def __init__(self, store: Store, identity: Identity, question: Question) -> None:
        self._store, self._identity, self._question = store, identity, question
        asked = set(question.roster.keys)
        self.clients = {client.name: client for client in _enrolled(store) if client.signing_key in asked}
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


def roster(store: Store) -> Roster:
    """The keys of all clients that may take part in a round that opens now."""
    return Roster.of(client.signing_key for client in _enrolled(store) if client.signing_key)


def _enrolled(store: Store) -> list[Client]:
    return [client for client in store.clients() if client.state is ClientState.ENROLLED]


def standing(
    store: Store, identity: Identity, question: Question, replies: Sequence[ReplyRecord]
) -> dict[str, Release]:
    """The releases among the replies that stand in the store, by client, verified as if they had come just now.

    Raises:
        VerificationError: one is not what it was when it came.
    """
    found = {}
    for record in replies:
        if record.outcome == RELEASED and record.envelope is not None:
            request = question.to(record.client, identity)
            reply = read(record.envelope, store.client(record.client), request)
            if not isinstance(reply, Release):
                raise VerificationError(f"{request.round}: the stored reply of {record.client} is no release")
            found[record.client] = reply
    return found


def read(envelope: bytes, client: Client, request: RoundRequest) -> Release | Decline:
    """A reply to `request`, signed by the key this very client enrolled with.

    Raises:
        VerificationError: another signer, not a reply, or not a reply to this request.
    """
    if client.signing_key is None:
        raise VerificationError(f"{client.name} has no enrolled signing key")
    key = Ed25519PublicKey.from_public_bytes(client.signing_key)
    reply = round_wire.reply_from_bytes(wire.envelope_from_bytes(envelope).verify(key, REPLY_TYPE))
    if isinstance(reply, Release):
        gate(reply, request)
    elif (reply.round, reply.client, reply.nonce) != (request.round, request.client, request.nonce):
        raise VerificationError(f"{request.round}: {request.client} declined another round")
    return reply
