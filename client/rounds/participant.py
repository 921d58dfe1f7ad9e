"""One round at the data owner, in order: verify, policy, consent, proxy, records, reserve, tune, sign, keep, answer.

What can be answered twice: a release is kept for ever and sent again byte for byte. A decline is written down, and
made anew each time, so that an owner who widens the policy or the budget takes part from then on. A round whose spend
was reserved but whose reply was lost stays spent, unless the owner stopped it (`client.ledger.reservation` says why).
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from client.ledger.reservation import Stopped
from client.private import dpsgd as tuning
from client.private.dataset import DataFile
from client.rounds import policy
from client.rounds.consent import Reconnect, always
from client.rounds.policy import Ask, Policy
from client.rounds.proxies import Proxies
from client.rounds.release import DIGEST_BYTES, OwnerIdentity, Releases, Tune, signed
from transfer.errors import (
    BudgetRefusedError,
    LedgerError,
    ModelError,
    PolicyRefusedError,
    PromptferryError,
    UsageError,
    VerificationError,
)
from transfer.models.language_model import LanguageModel
from transfer.models.self_check import require_tunable
from transfer.protocol.round_wire import request_from_bytes
from transfer.protocol.rounds import Decline, Refusal, RoundRequest
from transfer.protocol.signing import REQUEST_TYPE
from transfer.protocol.wire import envelope_from_bytes

logger = logging.getLogger(__name__)


class Participant:
    """Answers a coordinator's requests; made once, used by one thread.

    Args:
        data: file with the private records; read again only when it changes.
        consent: returns if the owner takes part in the campaign; see `client.rounds.consent`.
        tune: how records become a prompt.
        stop: abandons tuning when set; the same request may be answered later under the same reservation.
        now: time with its time zone, for the hours of the policy.
    """

    def __init__(
        self,
        identity: OwnerIdentity,
        limits: Policy,
        ledger: Ledger,
        proxies: Proxies,
        data: Path,
        *,
        consent: Callable[[RoundRequest], None] = always,
        tune: Tune = tuning.tune,
        stop: threading.Event | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._identity = identity
        self._limits = limits
        self._ledger = ledger
        self._proxies = proxies
        self._consent = consent
        self._stop = stop or threading.Event()
        self._releases = Releases(identity, limits, ledger, DataFile(data, ledger), tune, self._stop)
        self._now = now

    def answer(self, request: bytes) -> bytes:
        """Signed reply bytes to signed request bytes.

        Raises:
            VerificationError: the request is not the pinned coordinator's, not for us, or malformed.
            LedgerError: the ledger cannot be trusted, or a decline not be written down: nothing is answered.
            Reconnect: the owner was asked, which took its time.
        """
        payload = envelope_from_bytes(request).verify(self._identity.publisher, REQUEST_TYPE)
        asked = request_from_bytes(payload)
        if asked.client != self._identity.client:
            raise VerificationError(
                f"{asked.round} asks client {asked.client!r}, this is {self._identity.client!r}"
            )
        question = hashlib.sha256(payload).digest()
        if (kept := self._ledger.reply(asked.round)) is not None:
            return self._again(asked, question, kept)
        if self._ledger.is_over(asked.round, question.hex()):
            return self._decline(asked, Refusal.SPENT, "paid for before, and stopped before the reply")
        return self._first(asked, question)

    def _again(self, asked: RoundRequest, question: bytes, kept: bytes) -> bytes:
        if kept[:DIGEST_BYTES] != question:
            return self._decline(asked, Refusal.POLICY, "answered before, and now asked something else")
        logger.info("%s: asked again, same answer", asked.round)
        return kept[DIGEST_BYTES:]

    def _first(self, asked: RoundRequest, question: bytes) -> bytes:
        opened = False
        try:
            self._require_allowed(asked)
            self._consent(asked)
            model = self._model(asked)
            opened = True
            if (reply := self._releases.made(asked, question, model)) is not None:
                return reply
            refusal, why = Refusal.SPENT, "paid for by another process"
        except Reconnect:
            raise
        except PolicyRefusedError as error:
            refusal, why = Refusal.POLICY, str(error)
        except BudgetRefusedError as error:
            refusal, why = Refusal.BUDGET, str(error)
        except Stopped:
            refusal, why = Refusal.FAILED, "abandoned, the daemon is stopping; it may be asked again"
        except Exception as error:  # noqa: BLE001 -- its text may quote private data, its class does not
            refusal, why = Refusal.FAILED, f"{type(error).__name__}; try `promptferry-client data check`"
            if isinstance(error, PromptferryError) and not opened:
                why = str(error)
        # not logged above: a log handler that breaks prints every exception in hand, private text and all
        return self._decline(asked, refusal, why)

    def _require_allowed(self, asked: RoundRequest) -> None:
        index = int(asked.round.rpartition("/")[2])
        try:
            ask = Ask(asked.task.name, asked.proxy.digest, asked.tuning.spend, asked.rounds, asked.cohort)
        except UsageError as error:
            raise PolicyRefusedError(str(error)) from error
        policy.check(self._limits, ask, self._now())
        asked.roster.require(self._identity.signing.public_key().public_bytes_raw(), asked.cohort)
        if index > asked.rounds:
            raise PolicyRefusedError(f"round {index} of a campaign of {asked.rounds}")

    def _model(self, asked: RoundRequest) -> LanguageModel:
        model = self._proxies.model(asked.proxy)
        if asked.prompt.width != model.width:
            raise ModelError(
                f"the prompt is {asked.prompt.width} wide, proxy {asked.proxy.name!r} {model.width}"
            )
        require_tunable(model, asked.task, asked.prompt)  # before anything is paid
        if asked.subspace is not None:
            asked.subspace.require_orthonormal()
        return model

    def _decline(self, asked: RoundRequest, refusal: Refusal, why: str) -> bytes:
        declined = Declined.of(asked.round, refusal.name.lower(), why)
        logger.warning("%s: declined: %s: %s", declined.round_name, declined.refusal, declined.why)
        try:
            self._ledger.decline(declined)
        except LedgerError as error:
            logger.warning("%s: no answer, as that cannot be written down: %s", asked.round, error)
            raise
        return signed(Decline(asked.round, asked.client, asked.nonce, refusal), self._identity.signing)
