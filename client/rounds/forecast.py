"""A coordinator's plan as a data owner reads it: what its rounds ask of a client, and what they would cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.ledger.ledger import Ledger
from client.rounds.policy import Ask, Verdict
from transfer.errors import ConfigError, UsageError
from transfer.files.toml import Located, Settings, load
from transfer.privacy import Budget, Spend, epsilon
from transfer.protocol.tuning_defaults import MIN_CLIENTS, ROUNDS
from transfer.protocol.tuning_table import Count, TuningTable
from transfer.tasks import Task


def read(path: Path) -> Ask:
    """Read a plan file as the coordinator's operator launches it, and the task file it names.

    Raises:
        ConfigError: names file, table and key.
        TaskError: the task file is wrong, or missing beside the plan.
    """
    file = load(path, _PlanFile)
    try:
        spend = file.tuning.spend(file.rounds)
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error
    return Ask(Task.from_toml(file.task).name, file.proxy, spend, file.rounds, file.min_clients)


class _PlanFile(Settings):
    """A plan's keys; those that do not concern a data owner may have any value."""

    called = "plan"

    task: Located
    proxy: str
    rounds: Count = ROUNDS
    min_clients: Count = MIN_CLIENTS
    tuning: TuningTable

    name: Any = None
    public_text: Any = None
    target: Any = None
    deadline_s: Any = None
    strategy: Any = None
    seed: Any = None
    server: Any = None
    prompt: Any = None
    transfer: Any = None
    publish: Any = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """ε over the whole life of a data set if a campaign runs to its end.

    Attributes:
        epsilons: ε at the budget's δ before the campaign and after each of its rounds, [rounds + 1].
    """

    spend: Spend
    budget: Budget
    epsilons: tuple[float, ...]

    @staticmethod
    def of(ledger: Ledger, spend: Spend, rounds: int, budget: Budget) -> "Forecast":
        """Forecast `rounds` rounds at `spend` each.

        Only reading the records tells which data set the rounds use, so the one with the highest ε is assumed.

        Raises:
            UsageError: rounds is not ≥ 1.
        """
        if rounds < 1:
            raise UsageError(f"rounds {rounds} must be ≥ 1")
        lives = [ledger.spends(name) for name in ledger.data_sets()] or [[]]
        spent = max(lives, key=lambda spends: epsilon(spends, budget.delta))
        costs = (epsilon([*spent, *[spend] * count], budget.delta) for count in range(rounds + 1))
        return Forecast(spend, budget, tuple(costs))

    def covers(self, number: int) -> bool:
        """Tell whether the budget covers round `number` ≥ 1."""
        return self.epsilons[number] <= self.budget.epsilon

    @property
    def refused_from(self) -> int | None:
        """The first round the budget does not cover; None if it covers all."""
        return next((number for number in range(1, len(self.epsilons)) if not self.covers(number)), None)

    @property
    def verdict(self) -> Verdict:
        """The ledger's answer to the whole campaign, in the form of a policy rule."""
        before, after, ends = self.epsilons[0], self.epsilons[-1], self.refused_from
        until = "" if ends is None else f"; the budget ends before round {ends}"
        why = f"would bring ε from {before:.4g} to {after:.4g}; the limit is {self.budget.epsilon:g}{until}"
        return Verdict("max_epsilon", ends is None, why)
