"""How clients' prompts become one: equal weights, robust by default.

Letters: N clients, P prompt tokens, H hidden size.

What `coordinator.rounds.replies` admitted one by one, `combine` compares with each other: an update (prompt
− start) much
longer than the median update is left out. What is left out never enters a sum, so the aggregate is bit for bit the
one the others would have made. A weight that a client could claim does not exist.

Strategies are coordinate-wise (Yin et al. 2018, https://arxiv.org/abs/1803.01498). Plain Krum is not among
them: under the noise of differential privacy it keeps a single client's noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from transfer.errors import UsageError
from transfer.prompt import SoftPrompt

NORM_GATE = 3.0
"""An update longer than this many median updates is left out; needs at least `GATED_CLIENTS` to compare."""
GATED_CLIENTS = 3
TRIM = 0.2
"""Share of clients cut from each end of every coordinate by the trimmed mean."""
ROBUST_CLIENTS = 5
"""From this many clients on the default strategy is robust."""

DEFAULT = "default"
"""The mean, or the trimmed mean from `ROBUST_CLIENTS` clients on."""

Strategy = Callable[[torch.Tensor], torch.Tensor]
"""Prompts [N, P, H] of N clients in float64 to one [P, H]."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """One round's result.

    Attributes:
        prompt: what the next round starts from.
        counted: clients whose prompt is in it, each once, in alphabetical order.
        dropped: clients whose update was too long, with the reason.
        strategy: name of the strategy used.
    """

    prompt: SoftPrompt
    counted: tuple[str, ...]
    dropped: Mapping[str, str]
    strategy: str


def combine(prompts: Mapping[str, SoftPrompt], start: SoftPrompt, strategy: str = DEFAULT) -> Aggregate:
    """Aggregate admitted prompts by client, each with the same weight.

    The order in which replies came has no influence. `strategy` is one of `STRATEGIES` or `DEFAULT`.

    Raises:
        UsageError: no prompts, or no such strategy.
    """
    if not prompts:
        raise UsageError("no prompts to aggregate")
    dropped = _too_long(prompts, start)
    counted = tuple(name for name in sorted(prompts) if name not in dropped)
    if strategy == DEFAULT:
        strategy = "trimmed_mean" if len(counted) >= ROBUST_CLIENTS else "mean"
    if strategy not in STRATEGIES:
        raise UsageError(
            f"no aggregation strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}, {DEFAULT}"
        )
    stack = torch.stack([prompts[name].vectors for name in counted]).double()
    vectors = STRATEGIES[strategy](stack).float().contiguous()
    return Aggregate(SoftPrompt(vectors, start.model), counted, dropped, strategy)


def _too_long(prompts: Mapping[str, SoftPrompt], start: SoftPrompt) -> dict[str, str]:
    """Clients to leave out. The lower median is an honest norm as long as fewer than half are dishonest."""
    norms = {name: update_norm(prompt, start) for name, prompt in prompts.items()}
    if len(norms) < GATED_CLIENTS:
        return {}
    median = sorted(norms.values())[(len(norms) - 1) // 2]
    return {
        name: f"update norm {norm:.3g} is over {NORM_GATE:g} × the median {median:.3g}"
        for name, norm in sorted(norms.items())
        if not norm <= NORM_GATE * median
    }


def update_norm(prompt: SoftPrompt, start: SoftPrompt) -> float:
    """Length of what a client added to the prompt its round started from."""
    return float(torch.linalg.vector_norm(prompt.vectors.double() - start.vectors.double()))


def mean(prompts: torch.Tensor) -> torch.Tensor:
    """Mean of [N, P, H] over the clients."""
    return prompts.mean(dim=0)


def trimmed_mean(prompts: torch.Tensor) -> torch.Tensor:
    """Mean of each coordinate without the `TRIM` largest and the `TRIM` smallest of the N values."""
    cut = int(TRIM * len(prompts))
    return prompts.sort(dim=0).values[cut : len(prompts) - cut].mean(dim=0)


def median(prompts: torch.Tensor) -> torch.Tensor:
    """Median of each coordinate; between two middle values their mean."""
    ordered = prompts.sort(dim=0).values
    return (ordered[(len(prompts) - 1) // 2] + ordered[len(prompts) // 2]) / 2


STRATEGIES: Mapping[str, Strategy] = {"mean": mean, "trimmed_mean": trimmed_mean, "median": median}
