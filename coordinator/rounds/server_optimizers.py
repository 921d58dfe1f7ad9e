"""Named strategies: how a round's prompts become the start of the next round.

A strategy of `coordinator.rounds.aggregation` continues from the average itself. A server optimiser treats the
average minus the round's start as a gradient (Reddi et al. 2021, https://arxiv.org/abs/2003.00295). It averages by
the default rule, so it is as robust as that rule. All of it is post-processing of noised releases and costs no
privacy.

An optimiser's state is computed from all rounds so far and never stored. A restarted coordinator passes the stored
replies through again and continues exactly where it stopped.
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
        learning_rate: η > 0; η = 1 with β = 0 gives the average itself.
        momentum: β in [0, 1).
    """

    learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check(self)

    def step(self, updates: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the prompt's movement [P, H], given `updates` [P, H] of all rounds so far, the newest last."""
        velocity = torch.zeros_like(updates[0])
        for update in updates:
            velocity = self.momentum * velocity + update
        return self.learning_rate * velocity


@dataclass(frozen=True, slots=True)
class FedAdam:
    """Adam on the server (Reddi et al. 2021, algorithm 2): x ← x + η·m/(√v + τ).

    The moments are m ← β₁m + (1−β₁)Δ and v ← β₂v + (1−β₂)Δ²; v starts at τ².

    Attributes:
        learning_rate: η > 0, about the distance that a coordinate moves in a round.
        momentum: β₁ in [0, 1).
        second_momentum: β₂ in [0, 1).
        adaptivity: τ > 0; a larger τ gives more influence to a coordinate's own scale.
    """

    learning_rate: float = 0.05
    momentum: float = 0.9
    second_momentum: float = 0.99
    adaptivity: float = 1e-3

    def __post_init__(self) -> None:
        _check(self)

    def step(self, updates: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the prompt's movement [P, H], given `updates` [P, H] of all rounds so far, the newest last."""
        first = torch.zeros_like(updates[0])
        second = torch.full_like(updates[0], self.adaptivity**2)
        for update in updates:
            first = self.momentum * first + (1 - self.momentum) * update
            second = self.second_momentum * second + (1 - self.second_momentum) * update.square()
        return self.learning_rate * first / (second.sqrt() + self.adaptivity)


OPTIMISERS: Mapping[str, type[FedAvgM | FedAdam]] = {"fedavgm": FedAvgM, "fedadam": FedAdam}
NAMES = (DEFAULT, *STRATEGIES, *OPTIMISERS)


def optimiser(strategy: str, parameters: Mapping[str, float]) -> FedAvgM | FedAdam | None:
    """Return the server optimiser of a strategy; None if the strategy continues from the average.

    Raises:
        UsageError: no such strategy exists, it has no such parameter, or a parameter is out of range.
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
    """Closes a campaign's rounds. It needs every round in order, including those closed before a restart."""

    def __init__(self, strategy: str, parameters: Mapping[str, float]) -> None:
        self._strategy = strategy
        self._optimiser = optimiser(strategy, parameters)
        self._updates: list[torch.Tensor] = []

    def close(self, prompts: Mapping[str, SoftPrompt], start: SoftPrompt) -> Aggregate:
        """Return the aggregate of admitted prompts by client; its prompt is the start of the next round.

        Raises:
            UsageError: there are no prompts.
            VerificationError: the step leads to a NaN or infinite prompt.
        """
        if self._optimiser is None:
            return combine(prompts, start, self._strategy)
        average = combine(prompts, start)
        origin = start.vectors.double()
        self._updates.append(average.prompt.vectors.double() - origin)
        vectors = (origin + self._optimiser.step(self._updates)).float()
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
