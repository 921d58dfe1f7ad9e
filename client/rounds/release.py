"""A release: its cost is reserved, the prompt is tuned on private records, then signed and stored."""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.ledger.ledger import Ledger
from client.ledger.reservation import Stopped
from client.private.dataset import DataFile
from client.private.noise import NoiseSource, Randomness
from client.private.records import PrivateRecords
from client.rounds.policy import Policy
from transfer.models.language_model import LanguageModel
from transfer.privacy import Guarantee
from transfer.progress import OnStep, progress
from transfer.prompt import SoftPrompt
from transfer.protocol.round_wire import reply_to_bytes
from transfer.protocol.rounds import Release, Reply, RoundRequest, Tuning
from transfer.protocol.signing import REPLY_TYPE, sign
from transfer.protocol.wire import envelope_to_bytes
from transfer.subspace import Subspace
from transfer.tasks import Task

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32
"""A stored reply follows the SHA-256 of the request it answers."""


class Tune(Protocol):
    """Turns private records into a noised prompt; see `client.private.dpsgd.tune`."""

    def __call__(
        self,
        model: LanguageModel,
        records: PrivateRecords,
        task: Task,
        start: SoftPrompt,
        tuning: Tuning,
        *,
        declared_units: int,
        randomness: Randomness,
        subspace: Subspace | None,
        on_step: OnStep,
    ) -> SoftPrompt:
        """Return the prompt tuned from `start` in `tuning.spend.steps` noisy steps."""


@dataclass(frozen=True, slots=True)
class OwnerIdentity:
    """The client's name and signing key, and the only publisher key whose requests it reads."""

    client: str
    signing: Ed25519PrivateKey = field(repr=False)
    publisher: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Releases:
    """Makes releases from one file of private records; one thread uses it.

    Attributes:
        tune: turns records into a prompt.
        stop: ends tuning when set.
    """

    identity: OwnerIdentity
    limits: Policy
    ledger: Ledger
    data: DataFile
    tune: Tune
    stop: threading.Event

    def make(self, request: RoundRequest, digest: bytes, model: LanguageModel) -> bytes | None:
        """Tune, sign and store the reply to the request with the SHA-256 `digest`; return its bytes.

        Guarantee:
            Tuning starts only after the spend is durable in the ledger, and only under a fresh reservation. The reply
            is durable before it is returned. Its guarantee is ε at the budget's δ over the whole life of the data
            set, this round included, for adding or removing one unit.

        Edge cases:
            Another process paid for the round: nothing is tuned, None is returned. Tuning fails: the spend stays.
            `stop` is set: the same request may be answered later under the same reservation. σ = 0: only an infinite
            budget covers it, and the guarantee is ε = ∞.

        Raises:
            BudgetRefusedError: the budget does not cover the round.
            Stopped: `stop` was set.
        """
        spend, budget = request.tuning.spend, self.limits.budget
        records, data_set = self.data.open(request.task, model, spend.unit)
        if not self.ledger.reserve(data_set, request.round, spend, budget, digest.hex()).fresh:
            return None
        logger.info(
            "%s: the request has a roster of %d keys, digest %s",
            *(request.round, len(request.roster.keys), request.roster.digest),
        )
        logger.info(
            "%s: tuning for %s, unit %s, %d steps, noise %g, sample rate %g",
            *(request.round, request.task.name, spend.unit),
            *(spend.steps, spend.noise_multiplier, spend.sample_rate),
        )
        started = time.monotonic()
        prompt = self._tuned(request, model, records)
        guarantee = Guarantee(self.ledger.epsilon(data_set, budget.delta), budget.delta, spend.unit)
        release = Release(request.round, request.client, request.nonce, prompt, spend, guarantee)
        reply = signed(release, self.identity.signing)
        self.ledger.store_reply(request.round, digest + reply)
        logger.info(
            "%s: released after %.1f s; ε is now %.3f of %g at δ %g",
            *(request.round, time.monotonic() - started, guarantee.epsilon, budget.epsilon, budget.delta),
        )
        return reply

    def _tuned(self, request: RoundRequest, model: LanguageModel, records: PrivateRecords) -> SoftPrompt:
        with progress(request.round, bar=False) as show:

            def on_step(done: int, steps: int) -> None:
                # Only here, between two steps: where tuning stops must not depend on what it computed.
                if self.stop.is_set():
                    self.ledger.stop(request.round)
                    raise Stopped
                show(done, steps)

            return self.tune(
                model,
                records,
                request.task,
                request.prompt,
                request.tuning,
                declared_units=self.limits.declared_units,
                randomness=NoiseSource(),
                subspace=request.subspace,
                on_step=on_step,
            )


def signed(reply: Reply, key: Ed25519PrivateKey) -> bytes:
    """Return a reply as the bytes that are stored and sent."""
    return envelope_to_bytes(sign(reply_to_bytes(reply), REPLY_TYPE, key))
