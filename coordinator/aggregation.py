"""What may enter an aggregate, and how clients' prompts become one: equal weights, robust by default.

Letters: N clients, P prompt tokens, H hidden size.

A reply passes two gates. `gate` looks at one reply alone: does it answer exactly what was asked, can an
honest client have come this far. `combine` then compares the clients with each other: an update (prompt −
start) much longer than the median update is left out. What is left out never enters a sum, so the aggregate
is bit for bit the one the others would have made. A weight that a client could claim does not exist.

Strategies are coordinate-wise (Yin et al. 2018, https://arxiv.org/abs/1803.01498). Plain Krum is not among
them: under the noise of differential privacy it keeps a single client's noise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from transfer.errors import UsageError, VerificationError
from transfer.prompt import SoftPrompt
from transfer.rounds import Release, RoundRequest
from transfer.subspace import Subspace

OUTSIDE = 1e-3
"""Part of an update outside the subspace it was asked in that float32 may leave, generously."""
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


def gate(release: Release, request: RoundRequest) -> SoftPrompt:
    """The prompt of a release that answers exactly `request`.

    Raises:
        VerificationError: another round, client, nonce, proxy, shape or spend than asked, or an update no
            honest client could have made.
    """
    for field in ("round", "client", "nonce"):
        if getattr(release, field) != getattr(request, field):
            raise VerificationError(f"{request.round}: reply of {request.client} is for another {field}")
    if release.prompt.model.digest != request.proxy.digest:
        raise VerificationError(
            f"{request.round}: {request.client} tuned on proxy {release.prompt.model.digest[:16]}…, "
            f"asked for {request.proxy.digest[:16]}…"
        )
    if release.spend != request.tuning.spend:
        raise VerificationError(
            f"{request.round}: {request.client} spent {release.spend}, asked for {request.tuning.spend}"
        )
    shape, asked = list(release.prompt.vectors.shape), list(request.prompt.vectors.shape)
    if shape != asked:
        raise VerificationError(f"{request.round}: prompt of {request.client} has shape {shape}, not {asked}")
    if request.subspace is not None:
        _require_inside(request.subspace, release.prompt, request)
    norm, longest = _norm(release.prompt, request.prompt), longest_update(request)
    if not norm <= longest:
        raise VerificationError(
            f"{request.round}: update of {request.client} has norm {norm:.3g}, "
            f"no honest one exceeds {longest:.3g}"
        )
    return release.prompt


def _require_inside(subspace: Subspace, prompt: SoftPrompt, request: RoundRequest) -> None:
    """An honest update has no part outside the subspace but what rounding to float32 leaves."""
    update = prompt.vectors - request.prompt.vectors
    inside = subspace.vectors(subspace.coordinates(update.unsqueeze(0))[0])
    outside = torch.linalg.vector_norm(update - inside)
    if not outside <= OUTSIDE * (1 + torch.linalg.vector_norm(update)):
        raise VerificationError(
            f"{request.round}: update of {request.client} leaves the subspace by {outside:.3g}"
        )


def longest_update(request: RoundRequest) -> float:
    """Norm that honest tuning stays far below: a few times what all steps in one direction come to.

    Adam moves each of D tuned numbers by at most (1 − β₁)/√(1 − β₂) ≈ 3.2 learning rates a step (Kingma and Ba
    2015, https://arxiv.org/abs/1412.6980, §2.1), whatever the clipping norm and the noise. SGD without noise clips
    nothing, so no norm is too long: ∞.
    """
    tuning, spend = request.tuning, request.tuning.spend
    numbers = request.subspace.dimensions if request.subspace else request.prompt.vectors.numel()
    if tuning.optimizer == "adam":
        return 10 * spend.steps * tuning.learning_rate * math.sqrt(numbers)
    if not spend.noise_multiplier:
        return math.inf
    # A step is lr/(q·N) times a noised sum, where N ≥ 1 is what the client declared, which is not known here. N
    # units, each clipped to C, come to lr·C/q a step, whatever N is. The noise of all T steps is one Gaussian of
    # deviation lr·√T·σ·C/(q·N) at most in each of D numbers, about √D times as long, and longest for N = 1. Ten
    # times both leaves room for a file that holds more than was declared; noise alone exceeds it once in e⁴⁰ rounds.
    noise = spend.noise_multiplier * math.sqrt(spend.steps * numbers)
    return 10 * tuning.learning_rate * tuning.clip_norm / spend.sample_rate * (spend.steps + noise)


def combine(prompts: Mapping[str, SoftPrompt], start: SoftPrompt, strategy: str = DEFAULT) -> Aggregate:
    """Aggregate gated prompts by client, each with the same weight.

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
    norms = {name: _norm(prompt, start) for name, prompt in prompts.items()}
    if len(norms) < GATED_CLIENTS:
        return {}
    median = sorted(norms.values())[(len(norms) - 1) // 2]
    return {
        name: f"update norm {norm:.3g} is over {NORM_GATE:g} × the median {median:.3g}"
        for name, norm in sorted(norms.items())
        if not norm <= NORM_GATE * median
    }


def _norm(prompt: SoftPrompt, start: SoftPrompt) -> float:
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
