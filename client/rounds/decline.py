"""Declining a round: which errors and which spent rounds are declined, with which `Refusal` and for which reason.

The coordinator learns the `Refusal`; the reason stays with the owner, in the log and in the ledger.
"""

import logging
from dataclasses import dataclass

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from client.ledger.reservation import Stopped
from client.rounds.release import OwnerIdentity, signed
from transfer.errors import BudgetRefusedError, LedgerError, PolicyRefusedError, PromptferryError
from transfer.protocol.rounds import Decline, Refusal, RoundRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a round is declined: `refusal` for the coordinator, `why` for the owner alone."""

    refusal: Refusal
    why: str


STOPPED_BEFORE = Reason(Refusal.SPENT, "paid for before, but stopped before the reply")
PAID_ELSEWHERE = Reason(Refusal.SPENT, "paid for by another process")
ANSWERED_BEFORE = Reason(Refusal.POLICY, "another request for this round was answered before")


def reason_of(error: Exception, *, opened: bool) -> Reason:
    """Return the reason for which a round that ended in `error` is declined.

    Guarantee:
        Once private records were `opened`, an error's text may quote them. Then only the texts of the policy and the
        budget are repeated, which hold no record's content; of any other error, only its class is.
    """
    match error:
        case PolicyRefusedError():
            return Reason(Refusal.POLICY, str(error))
        case BudgetRefusedError():
            return Reason(Refusal.BUDGET, str(error))
        case Stopped():
            return Reason(Refusal.FAILED, "abandoned, the daemon is stopping; it may be asked again")
        case PromptferryError() if not opened:
            return Reason(Refusal.FAILED, str(error))
        case _:
            return Reason(Refusal.FAILED, f"{type(error).__name__}; try `promptferry-client data check`")


def decline(request: RoundRequest, reason: Reason, identity: OwnerIdentity, ledger: Ledger) -> bytes:
    """Write a decline down, then return it as a signed reply.

    Never call it while an error is handled: a failing log handler prints the error in flight, private text included.

    Raises:
        LedgerError: the decline cannot be written down; nothing is to be answered.
    """
    declined = Declined.of(request.round, reason.refusal.name.lower(), reason.why)
    logger.warning("%s: declined: %s: %s", declined.round_name, declined.refusal, declined.why)
    try:
        ledger.decline(declined)
    except LedgerError as error:
        logger.warning("%s: not answered, the decline cannot be written down: %s", request.round, error)
        raise
    return signed(Decline(request.round, request.client, request.nonce, reason.refusal), identity.signing)
