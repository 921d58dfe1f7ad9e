"""Named strategies: how a round's prompts become the prompt the next round starts from.

A strategy of `coordinator.rounds.aggregation` goes on from the average itself. The server optimisers take the
average's distance from where the round started for a gradient (Reddi et al. 2021,
https://arxiv.org/abs/2003.00295) and average by the default rule, so that they are as robust as it is. All of
it happens after the clients' noise, so it costs no privacy.

What an optimiser remembers is computed from the rounds so far and kept nowhere: a coordinator that was
restarted feeds the stored replies through again and goes on exactly.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from coordinator.rounds.aggregation import DEFAULT, STRATEGIES, Aggregate, combine
from transfer.errors import UsageError
from transfer.prompt import SoftPrompt


@dataclass(frozen=True, slots=True)
class FedAvgM:
    """Momentum on the server (Hsu et al. 2019, https://arxiv.org/abs/1909.06335): v ← β·v + Δ, x ← x + η·v.

    Attributes:
        learning_rate: η > 0; 1 without momentum is the average itself.
        momentum: β in [0, 1).
    """

    learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check(self)

    def step(self, updates: Sequence[torch.Tensor]) -> torch.Tensor:
        """How far the prompt moves after `updates` [P, H] of all rounds so far, the newest last."""
        velocity = torch.zeros_like(updates[0])
        for update in updates:
            velocity = self.momentum * velocity + update
        return self.learning_rate * velocity


@dataclass(frozen=True, slots=True)
class FedAdam:
    """Reddi et al. 2021, algorithm 2: m ← β₁m + (1−β₁)Δ, v ← β₂v + (1−β₂)Δ², x ← x + η·m/(√v + τ).

    Attributes:
        learning_rate: η > 0, about what a coordinate moves in a round.
        momentum: β₁ in [0, 1).
        second_momentum: β₂ in [0, 1).
        adaptivity: τ > 0; the larger, the more a coordinate's own scale counts. v starts at τ².
    """

    learning_rate: float = 0.05
    momentum: float = 0.9
    second_momentum: float = 0.99
    adaptivity: float = 1e-3

    def __post_init__(self) -> None:
        _check(self)

    def step(self, updates: Sequence[torch.Tensor]) -> torch.Tensor:
        """How far the prompt moves after `updates` [P, H] of all rounds so far, the newest last."""
        first = torch.zeros_like(updates[0])
        second = torch.full_like(updates[0], self.adaptivity**2)
        for update in updates:
            first = self.momentum * first + (1 - self.momentum) * update
            second = self.second_momentum * second + (1 - self.second_momentum) * update.square()
        return self.learning_rate * first / (second.sqrt() + self.adaptivity)


OPTIMISERS: Mapping[str, type[FedAvgM | FedAdam]] = {"fedavgm": FedAvgM, "fedadam": FedAdam}
NAMES = (DEFAULT, *STRATEGIES, *OPTIMISERS)


def optimiser(strategy: str, parameters: Mapping[str, float]) -> FedAvgM | FedAdam | None:
    """The server optimiser of a strategy; None if it goes on from the average.

    Raises:
        UsageError: no such strategy, or not its parameter, or one out of range.
    """
    if strategy not in NAMES:
        raise UsageError(f"strategy {strategy!r} is none of {', '.join(NAMES)}")
    kind = OPTIMISERS.get(strategy)
    known = [field.name for field in dataclasses.fields(kind)] if kind else []
    for name in parameters:
        if name not in known:
            raise UsageError(
                f"strategy {strategy!r} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
            )
    return kind(**parameters) if kind else None


class ServerOptimizer:
    """Closes a campaign's rounds; fed every round in order, those closed before a restart again."""

    def __init__(self, strategy: str, parameters: Mapping[str, float]) -> None:
        self._strategy = strategy
        self._optimiser = optimiser(strategy, parameters)
        self._updates: list[torch.Tensor] = []

    def close(self, prompts: Mapping[str, SoftPrompt], start: SoftPrompt) -> Aggregate:
        """What the next round starts from, of admitted prompts by client.

        Raises:
            UsageError: no prompts.
            VerificationError: the step leads to infinity.
        """
        if self._optimiser is None:
            return combine(prompts, start, self._strategy)
        average = combine(prompts, start)
        begun = start.vectors.double()
        self._updates.append(average.prompt.vectors.double() - begun)
        vectors = (begun + self._optimiser.step(self._updates)).float()
        return dataclasses.replace(
            average,
            prompt=SoftPrompt(vectors, start.model),
            strategy=f"{self._strategy} of {average.strategy}",
        )


def _check(settings: FedAvgM | FedAdam) -> None:
    for name, value in dataclasses.asdict(settings).items():
        if name in {"momentum", "second_momentum"}:
            if not 0 <= value < 1:
                raise UsageError(f"strategy parameter {name} {value} must be in [0, 1)")
        elif not (math.isfinite(value) and value > 0):
            raise UsageError(f"strategy parameter {name} {value} must be finite and > 0")
