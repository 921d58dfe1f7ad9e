"""A release: what it costs is reserved, private records are tuned on, and the noised prompt is signed and kept."""

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
"""A kept reply stands behind the SHA-256 of the question it answers."""


class Tune(Protocol):
    """What turns private records into a noised prompt; see `client.private.dpsgd.tune`."""

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
        """Prompt tuned from `start` in `tuning.spend.steps` noisy steps."""


@dataclass(frozen=True, slots=True)
class OwnerIdentity:
    """Who answers whom: our name and signing key, and the only key whose requests are read."""

    client: str
    signing: Ed25519PrivateKey = field(repr=False)
    publisher: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Releases:
    """Makes releases of one file of private records; used by one thread.

    Attributes:
        tune: how records become a prompt.
        stop: abandons tuning when set.
    """

    identity: OwnerIdentity
    limits: Policy
    ledger: Ledger
    data: DataFile
    tune: Tune
    stop: threading.Event

    def made(self, asked: RoundRequest, question: bytes, model: LanguageModel) -> bytes | None:
        """Signed reply bytes, kept behind the SHA-256 `question`; None if another process paid for the round.

        Raises:
            BudgetRefusedError: the budget does not cover the round.
            Stopped: `stop` was set; what was reserved stays spent.
        """
        spend, budget = asked.tuning.spend, self.limits.budget
        records, data_set = self.data.open(asked.task, model, spend.unit)
        if not self.ledger.reserve(data_set, asked.round, spend, budget, question.hex()).fresh:
            return None
        logger.info(
            "%s: asked with a roster of %d keys, digest %s",
            *(asked.round, len(asked.roster.keys), asked.roster.digest),
        )
        logger.info(
            "%s: tuning for %s, unit %s, %d steps, noise %g, sample rate %g",
            *(asked.round, asked.task.name, spend.unit),
            *(spend.steps, spend.noise_multiplier, spend.sample_rate),
        )
        started = time.monotonic()
        prompt = self._tuned(asked, model, records)
        guarantee = Guarantee(self.ledger.epsilon(data_set, budget.delta), budget.delta, spend.unit)
        reply = signed(
            Release(asked.round, asked.client, asked.nonce, prompt, spend, guarantee), self.identity.signing
        )
        self.ledger.store_reply(asked.round, question + reply)
        logger.info(
            "%s: released after %.1f s; ε is now %.3f of %g at δ %g",
            *(asked.round, time.monotonic() - started, guarantee.epsilon, budget.epsilon, budget.delta),
        )
        return reply

    def _tuned(self, asked: RoundRequest, model: LanguageModel, records: PrivateRecords) -> SoftPrompt:
        with progress(asked.round, bar=False) as show:

            def on_step(done: int, steps: int) -> None:
                if self.stop.is_set():
                    self.ledger.stop(asked.round)
                    raise Stopped
                show(done, steps)

            return self.tune(
                model,
                records,
                asked.task,
                asked.prompt,
                asked.tuning,
                declared_units=self.limits.declared_units,
                randomness=NoiseSource(),
                subspace=asked.subspace,
                on_step=on_step,
            )


def signed(reply: Reply, key: Ed25519PrivateKey) -> bytes:
    """A reply as the bytes that are sent and kept."""
    return envelope_to_bytes(sign(reply_to_bytes(reply), REPLY_TYPE, key))
