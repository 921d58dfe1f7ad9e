"""One round at the data owner, in order: verify, policy, consent, proxy, records, reserve, tune, sign, store, reply.

A request may arrive twice. A release is stored for ever and sent again byte for byte. A decline is written down but
decided again each time (`client.rounds.decline`), so that an owner who widens the policy or the budget takes part
from then on. A round whose spend was reserved but whose reply was lost stays spent, unless the owner stopped it (see
`client.ledger.reservation`).
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from client.ledger.ledger import Ledger
from client.private import dpsgd as tuning
from client.private.dataset import DataFile
from client.rounds import policy
from client.rounds.consent import Reconnect, always
from client.rounds.decline import ANSWERED_BEFORE, PAID_ELSEWHERE, STOPPED_BEFORE, Reason, decline, reason_of
from client.rounds.policy import Ask, Policy
from client.rounds.proxies import Proxies
from client.rounds.release import DIGEST_BYTES, OwnerIdentity, Releases, Tune
from transfer.errors import ModelError, PolicyRefusedError, UsageError, VerificationError
from transfer.models.language_model import LanguageModel
from transfer.models.self_check import require_tunable
from transfer.protocol.round_wire import request_from_bytes
from transfer.protocol.rounds import RoundRequest
from transfer.protocol.signing import REQUEST_TYPE
from transfer.protocol.wire import envelope_from_bytes

logger = logging.getLogger(__name__)


class Participant:
    """Answers a coordinator's requests; one thread uses it.

    Args:
        data: file with the private records; read again only when it changes.
        consent: returns if the owner takes part in the campaign; see `client.rounds.consent`.
        tune: turns records into a prompt.
        stop: ends tuning when set; the same request may be answered later under the same reservation.
        now: returns the time with its time zone, for the hours of the policy.
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

    def answer(self, message: bytes) -> bytes:
        """Return the signed reply bytes to signed request bytes.

        Guarantee: no private record is read before signature, policy, consent and proxy are checked. Every reply is
        in the ledger before it is returned, and one round is released at most once. A decline carries a `Refusal` but
        not its reason.

        Raises:
            VerificationError: the request is not the pinned coordinator's, not for this client, or malformed.
            LedgerError: the ledger cannot be trusted, or a decline cannot be written down; nothing is answered.
            Reconnect: the owner was asked, which may have taken minutes.
        """
        payload = envelope_from_bytes(message).verify(self._identity.publisher, REQUEST_TYPE)
        request = request_from_bytes(payload)
        if request.client != self._identity.client:
            raise VerificationError(
                f"{request.round} asks client {request.client!r}, this is {self._identity.client!r}"
            )
        digest = hashlib.sha256(payload).digest()
        if (stored := self._ledger.reply(request.round)) is not None:
            return self._again(request, digest, stored)
        if self._ledger.is_over(request.round, digest.hex()):
            return self._decline(request, STOPPED_BEFORE)
        return self._first(request, digest)

    def _again(self, request: RoundRequest, digest: bytes, stored: bytes) -> bytes:
        if stored[:DIGEST_BYTES] != digest:
            return self._decline(request, ANSWERED_BEFORE)
        logger.info("%s: the same request again, the same reply", request.round)
        return stored[DIGEST_BYTES:]

    def _first(self, request: RoundRequest, digest: bytes) -> bytes:
        opened = False
        try:
            self._require_allowed(request)
            self._consent(request)
            model = self._model(request)
            opened = True  # from here on an error's text may quote private data
            if (reply := self._releases.make(request, digest, model)) is not None:
                return reply
            reason = PAID_ELSEWHERE
        except Reconnect:
            raise
        except Exception as error:  # noqa: BLE001 -- its text may quote private data, its class does not
            reason = reason_of(error, opened=opened)
        # not logged in a handler: a failing log handler prints the exception in flight, private text included
        return self._decline(request, reason)

    def _require_allowed(self, request: RoundRequest) -> None:
        index, spend = int(request.round.rpartition("/")[2]), request.tuning.spend
        try:
            ask = Ask(request.task.name, request.proxy.digest, spend, request.rounds, request.cohort)
        except UsageError as error:
            raise PolicyRefusedError(str(error)) from error
        policy.check(self._limits, ask, self._now())
        request.roster.require(self._identity.signing.public_key().public_bytes_raw(), request.cohort)
        if index > request.rounds:
            raise PolicyRefusedError(f"round {index} of a campaign of {request.rounds}")

    def _model(self, request: RoundRequest) -> LanguageModel:
        model = self._proxies.model(request.proxy)
        if request.prompt.width != model.width:
            raise ModelError(
                f"the prompt has width {request.prompt.width}, proxy {request.proxy.name!r} has {model.width}"
            )
        require_tunable(model, request.task, request.prompt)  # before anything is paid
        if request.subspace is not None:
            request.subspace.require_orthonormal()
        return model

    def _decline(self, request: RoundRequest, reason: Reason) -> bytes:
        return decline(request, reason, self._identity, self._ledger)
