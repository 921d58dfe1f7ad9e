"""The owner's consent to a campaign: `run --ask` asks once for each and remembers a yes."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from client.ledger.ledger import Ledger
from client.rounds.agreements import Agreements
from client.rounds.forecast import Forecast
from transfer.errors import PolicyRefusedError
from transfer.privacy import Budget
from transfer.protocol.prompt_statement import TaskV1
from transfer.protocol.rounds import RoundRequest
from transfer.tasks import Task

logger = logging.getLogger(__name__)

AskOwner = Callable[[str, threading.Event], bool]
"""Puts a question to the owner and returns True for yes; returns False once the event is set."""


class Reconnect(Exception):  # noqa: N818 -- no error: an answer asks for it
    """Raised in place of a reply. On a new connection the coordinator sends the request again if it still waits."""


@dataclass(frozen=True, slots=True)
class Consent:
    """The owner's yes to campaigns the policy allows.

    The owner agrees to a campaign as it was shown. If its task, proxy, cost, number of rounds or cohort changes, the
    owner is asked again. A no lasts until the daemon restarts.

    Args:
        agreements: stores what was agreed to.
        stop: set when the daemon is to stop.
    """

    agreements: Agreements
    ledger: Ledger
    budget: Budget
    ask: AskOwner
    stop: threading.Event
    _refused: set[str]

    @staticmethod
    def by(
        ask: AskOwner, agreements: Agreements, ledger: Ledger, budget: Budget, stop: threading.Event
    ) -> "Consent":
        """Return the consent of the owner who answers `ask`."""
        return Consent(agreements, ledger, budget, ask, stop, set())

    def require(self, request: RoundRequest) -> None:
        """Return if the owner has agreed; ask if they have not been asked.

        Raises:
            PolicyRefusedError: the answer is no.
            Reconnect: the answer is yes, or there is none. Minutes may have passed, and a round that has closed
                must not be paid for.
            ConfigError: the agreements cannot be read.
        """
        campaign, shown = request.round.split("/")[1], _fingerprint(request)
        if self.agreements.read().get(campaign) == shown:
            return
        if shown not in self._refused:
            if self.ask(self._question(request), self.stop):
                logger.info("campaign %s: you take part", campaign)
                self.agreements.add(campaign, shown)
                raise Reconnect
            if self.stop.is_set():
                raise Reconnect
            self._refused.add(shown)
        raise PolicyRefusedError(f"you do not take part in campaign {campaign}")

    def _question(self, request: RoundRequest) -> str:
        _, campaign, _, index = request.round.split("/")
        spend, left = request.tuning.spend, request.rounds - int(index) + 1
        cost = Forecast.of(self.ledger, spend, left, self.budget)
        return "\n".join(
            [
                f"Campaign {campaign} asks you to take part:",
                f"  task     {request.task.name}: {request.task.template}{_asked(request.task)}",
                f"  proxy    {request.proxy.name}, digest {request.proxy.digest}",
                f"  rounds   {left}, averaged with at least {request.cohort - 1} others",
                f"  each     {spend.steps} steps, noise {spend.noise_multiplier:g}, rate {spend.sample_rate:g}",
                f"  privacy  {cost.verdict.why}, at δ {self.budget.delta:g} for one {spend.unit}",
            ]
        )


def always(_request: RoundRequest) -> None:
    """Consent to everything that the policy allows."""


def _asked(task: Task) -> str:
    """Return what else than its template a task asks: a chat's turns, and several labels a text; or ""."""
    asked = ""
    if task.chat:
        asked = f" (a chat's user turn{f', behind the system turn {task.system!r}' if task.system else ''})"
    return f"{asked} (any number of labels a text)" if task.many else asked


def _fingerprint(request: RoundRequest) -> str:
    """Return the hash of all that an owner agrees to; it is the same in every round of a campaign."""
    spend = asdict(request.tuning.spend)
    task = TaskV1.of(request.task).model_dump()  # the same for a task from before a key was added
    facts = [task, request.proxy.digest, spend, request.rounds, request.cohort]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
