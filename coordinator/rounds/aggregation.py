"""Aggregation of clients' prompts into one: equal weights, robust by default.

Letters: N clients, P prompt tokens, H hidden size.

`coordinator.rounds.replies` admits each prompt alone; `combine` compares the admitted prompts. It drops an update
(prompt − start) that is much longer than the median update. A dropped update never enters a sum, so the aggregate
equals, bit for bit, the aggregate of the other clients. No client can claim a weight.

Strategies are coordinate-wise (Yin et al. 2018, https://arxiv.org/abs/1803.01498). Plain Krum is not among
them, because under the noise of differential privacy it keeps a single client's noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from transfer.errors import UsageError
from transfer.prompt import SoftPrompt

NORM_GATE = 3.0
"""Longest update that counts, in median updates; `combine` drops a longer one."""
GATED_CLIENTS = 3
"""Fewest clients for which `combine` compares updates with their median."""
TRIM = 0.2
"""Share of clients that the trimmed mean cuts from each end of every coordinate."""
ROBUST_CLIENTS = 5
"""Fewest clients for which the default strategy is the trimmed mean."""

DEFAULT = "default"
"""The trimmed mean for `ROBUST_CLIENTS` clients or more, otherwise the mean."""

Strategy = Callable[[torch.Tensor], torch.Tensor]
"""Maps the prompts [N, P, H] of N clients, in float64, to one [P, H]."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """One round's result.

    Attributes:
        prompt: start of the next round.
        counted: clients whose prompt is in the aggregate, each once, in alphabetical order.
        dropped: clients whose update was too long, with the reason.
        strategy: name of the strategy used.
    """

    prompt: SoftPrompt
    counted: tuple[str, ...]
    dropped: Mapping[str, str]
    strategy: str


def combine(prompts: Mapping[str, SoftPrompt], start: SoftPrompt, strategy: str = DEFAULT) -> Aggregate:
    """Aggregate admitted prompts by client, each with the same weight.

    Args:
        prompts: admitted prompts by client, all of the shape of `start`.
        start: prompt that the round started from.
        strategy: one of `STRATEGIES`, or `DEFAULT`.

    Guarantee:
        Post-processing: the result depends on clients' data only through their releases, so it costs no
        privacy. The order of the mapping has no influence. While fewer than half of the clients are dishonest,
        the lower median of the norms is at most the largest honest norm. From `GATED_CLIENTS` prompts on, a
        counted update is then at most `NORM_GATE` times as long as the longest honest one.

    Edge cases:
        No prompts: refused. Fewer than `GATED_CLIENTS` prompts: none is dropped, and only
        `coordinator.rounds.replies.admit` bounds an update. A median of 0: every update other than 0 is dropped.
        NaN and ∞: `SoftPrompt` refuses them. Fewer than 1 / `TRIM` clients: `trimmed_mean` cuts nobody and is the
        mean.

    Raises:
        UsageError: there are no prompts, or no such strategy exists.
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
    # [N, P, H] in the clients' alphabetical order, so that equal prompts give equal bits
    stack = torch.stack([prompts[name].vectors for name in counted]).double()
    vectors = STRATEGIES[strategy](stack).float().contiguous()
    return Aggregate(SoftPrompt(vectors, start.model), counted, dropped, strategy)


def _too_long(prompts: Mapping[str, SoftPrompt], start: SoftPrompt) -> dict[str, str]:
    """Return the clients to drop, with the reason.

    While fewer than half of the clients are dishonest, an honest norm is at least as large as the lower median.
    """
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
    """Return the Euclidean norm of what a client added to the prompt its round started from."""
    return float(torch.linalg.vector_norm(prompt.vectors.double() - start.vectors.double()))


def mean(prompts: torch.Tensor) -> torch.Tensor:
    """Return the mean of [N, P, H] over the clients."""
    return prompts.mean(dim=0)


def trimmed_mean(prompts: torch.Tensor) -> torch.Tensor:
    """Return each coordinate's mean without its k largest and k smallest values; k is `TRIM` · N, rounded down."""
    cut = int(TRIM * len(prompts))
    return prompts.sort(dim=0).values[cut : len(prompts) - cut].mean(dim=0)


def median(prompts: torch.Tensor) -> torch.Tensor:
    """Return each coordinate's median; of two middle values, their mean."""
    ordered = prompts.sort(dim=0).values
    return (ordered[(len(prompts) - 1) // 2] + ordered[len(prompts) // 2]) / 2


STRATEGIES: Mapping[str, Strategy] = {"mean": mean, "trimmed_mean": trimmed_mean, "median": median}
