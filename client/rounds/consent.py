"""Whether the owner takes part in a campaign: asked once for each (`run --ask`), and remembered if it is yes."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from client.ledger.ledger import Ledger
from client.rounds.agreements import Agreements
from client.rounds.plan import Forecast
from transfer.errors import PolicyRefusedError
from transfer.privacy import Budget
from transfer.protocol.rounds import RoundRequest

logger = logging.getLogger(__name__)

AskOwner = Callable[[str, threading.Event], bool]
"""Puts a question to the owner; gives up with False once the event is set."""


class Reconnect(Exception):  # noqa: N818 -- no error: an answer asks for it
    """Raised in place of a reply: the request is sent again on a new connection, if it is still wanted."""


@dataclass(frozen=True, slots=True)
class Consent:
    """The owner's yes to campaigns the policy allows.

    What was agreed to is the campaign as it was shown: one that comes back with another task, proxy, cost, number
    of rounds or cohort is asked for again. A no holds until the daemon is started anew.

    Args:
        agreements: remembers what was agreed to.
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
        """Consent given by whoever answers `ask`."""
        return Consent(agreements, ledger, budget, ask, stop, set())

    def require(self, asked: RoundRequest) -> None:
        """Return if the owner has agreed; ask if they have not been asked.

        Raises:
            PolicyRefusedError: the answer is no.
            Reconnect: the answer was yes, or never came: minutes may have passed, and a round that is over must
                not be paid for.
            ConfigError: the agreements cannot be read.
        """
        campaign, shown = asked.round.split("/")[1], _fingerprint(asked)
        if self.agreements.read().get(campaign) == shown:
            return
        if shown not in self._refused:
            if self.ask(self._question(asked), self.stop):
                logger.info("campaign %s: you take part", campaign)
                self.agreements.add(campaign, shown)
                raise Reconnect
            if self.stop.is_set():
                raise Reconnect
            self._refused.add(shown)
        raise PolicyRefusedError(f"you do not take part in campaign {campaign}")

    def _question(self, asked: RoundRequest) -> str:
        _, campaign, _, index = asked.round.split("/")
        spend, left = asked.tuning.spend, asked.rounds - int(index) + 1
        cost = Forecast.of(self.ledger, spend, left, self.budget)
        return "\n".join(
            [
                f"Campaign {campaign} asks you to take part:",
                f"  task     {asked.task.name}: {asked.task.template}",
                f"  proxy    {asked.proxy.name}, digest {asked.proxy.digest}",
                f"  rounds   {left}, averaged with {asked.cohort - 1} others at least",
                f"  each     {spend.steps} steps, noise {spend.noise_multiplier:g}, rate {spend.sample_rate:g}",
                f"  privacy  {cost.verdict.why} at δ {self.budget.delta:g} for one {spend.unit}",
            ]
        )


def always(_asked: RoundRequest) -> None:
    """Consent of an owner to whom the policy says enough."""


def _fingerprint(asked: RoundRequest) -> str:
    """Hash of all that an owner agrees to, the same in every round of a campaign."""
    facts = [asdict(asked.task), asked.proxy.digest, asdict(asked.tuning.spend), asked.rounds, asked.cohort]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
