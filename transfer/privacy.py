"""Privacy as values: facts are stored, ε is computed from them.

The unit of privacy is one record of a data set, or one user with all their records. Adjacent data sets differ by one
unit, added or removed. A `Spend` describes one run of the Poisson-subsampled Gaussian mechanism completely. Every ε
in the project comes from a sequence of spends through `epsilon`.

Spends of different units do not compose. Adding a record to a user who has others replaces that user's share in a
sum, which is a removal and an addition: ε for one user is up to 2ε for one record.

The accountant is PRV (Gopi et al. 2021, https://arxiv.org/abs/2106.02848) as shipped in Opacus: an upper bound about
0.01 above the exact value. RDP (Mironov et al. 2019, https://arxiv.org/abs/1908.10530) gives a looser upper bound and
serves as a cross-check. The central-limit (GDP) accountant is never used: it underestimates ε.
"""

import functools
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, get_args

from transfer.errors import PromptferryError, UsageError

Unit = Literal["record", "user"]
"""What is sampled, clipped and protected as one: a record, or a user with all their records."""
ADJACENCY = "add/remove one"
PRV_SLACK = 0.02
"""PRV may exceed RDP by its own discretisation error and no more."""
PRV_MAX_EPSILON = 100.0
PRV_MAX_STEPS = 200_000
"""Beyond either limit PRV needs gigabytes and minutes, so the RDP bound is reported."""
NOISE_RANGE = (1e-3, 1e6)
"""Noise multipliers the accountants support; less noise gives no privacy in practice."""


def accountant_name() -> str:
    """Return accountant and version as written into statements."""
    return f"PRV (opacus {version('opacus')})"


@dataclass(frozen=True, slots=True)
class Spend:
    """One run of DP-SGD: `steps` draws of Poisson(`sample_rate`) with Gaussian noise σ·C on the sum.

    Attributes:
        noise_multiplier: σ, noise standard deviation over clipping norm, in [0.001, 10⁶]; 0 means no privacy.
        sample_rate: q in (0, 1], probability that a unit takes part in a step.
        steps: T ≥ 1, noisy sums released.
        unit: what q samples and C bounds.

    Raises:
        UsageError: a value lies outside its range. NaN and ∞ lie outside every range.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    unit: Unit = "record"

    def __post_init__(self) -> None:
        _require_known(self.unit)
        low, high = NOISE_RANGE
        if not (self.noise_multiplier == 0 or low <= self.noise_multiplier <= high):
            raise UsageError(f"noise multiplier {self.noise_multiplier} must be 0 or in [{low:g}, {high:g}]")
        if not 0 < self.sample_rate <= 1:
            raise UsageError(f"sample rate {self.sample_rate} must be in (0, 1]")
        if self.steps < 1:
            raise UsageError(f"steps {self.steps} must be ≥ 1")


@dataclass(frozen=True, slots=True)
class Budget:
    """The limit a data owner sets for one data set, over all its releases: (ε, δ).

    Attributes:
        epsilon: ε > 0; ∞ for no limit.
        delta: δ in (0, 1).

    Raises:
        UsageError: a value lies outside its range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise UsageError(f"budget ε {self.epsilon} must be > 0")
        _require_delta("budget δ", self.delta)

    def covers(self, spends: Iterable[Spend]) -> bool:
        """Return whether the composition of all `spends` stays within the budget.

        Edge cases:
            An empty `spends` is covered. A spend without noise is covered by an infinite ε only.

        Raises:
            UsageError: the spends have different units.
        """
        return epsilon(spends, self.delta) <= self.epsilon


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The claim about a release: (ε, δ) for one `unit` under `ADJACENCY`. ε = ∞ claims nothing."""

    epsilon: float
    delta: float
    unit: Unit = "record"

    def __post_init__(self) -> None:
        _require_known(self.unit)
        if not self.epsilon >= 0:
            raise UsageError(f"guaranteed ε {self.epsilon} must be ≥ 0")
        _require_delta("guaranteed δ", self.delta)


def _require_delta(name: str, delta: float) -> None:
    if not 0 < delta < 1:
        raise UsageError(f"{name} {delta} must be in (0, 1)")


def _require_known(unit: str) -> None:
    if unit not in get_args(Unit):
        raise UsageError(f"unit {unit!r} must be {' or '.join(get_args(Unit))}")


def default_delta(declared_units: int) -> float:
    """Return δ = min(1e-6, 1/(10·N)) for a declared, public number of units N ≥ 1."""
    return min(1e-6, 1 / (10 * declared_units))


def unit_of(spends: Iterable[Spend]) -> Unit | None:
    """Return the unit of all `spends`; None if there are none.

    Raises:
        UsageError: the spends have different units.
    """
    units = {spend.unit for spend in spends}
    if len(units) > 1:
        raise UsageError("spends for one record and spends for one user do not compose; keep to one unit")
    return next(iter(units), None)


def epsilon(spends: Iterable[Spend], delta: float) -> float:
    """Return ε at `delta` of the composition of `spends`.

    Guarantee:
        The result is an upper bound: the spends together are (ε, δ)-differentially private for one unit, added or
        removed. This assumes that each spend ran as it says: Poisson sampling at rate q with public T and σ, each
        unit's share clipped to C, and Gaussian noise σ·C on the sum. Later spends may depend on earlier releases
        as long as their q, σ and T do not. The bound is numerical and as exact as PRV's discretisation.

    Edge cases:
        No spends give 0. A spend with σ = 0 gives ∞. q = 1 is the Gaussian mechanism without subsampling. Beyond
        `PRV_MAX_EPSILON` or `PRV_MAX_STEPS`, or for a `delta` too small for PRV, the result is the larger RDP bound.

    Args:
        spends: in any order; spends of equal σ and q add up their steps.
        delta: δ in (0, 1).

    Raises:
        UsageError: `delta` lies outside (0, 1), or the spends have different units.
        PromptferryError: PRV exceeds RDP by more than `PRV_SLACK`, or one of them is NaN; neither is reported.
    """
    _require_delta("δ", delta)
    spends = tuple(spends)
    unit_of(spends)
    counted: dict[tuple[float, float], int] = {}
    for spend in spends:
        key = (spend.noise_multiplier, spend.sample_rate)
        counted[key] = counted.get(key, 0) + spend.steps
    return _epsilon(tuple(sorted((*key, steps) for key, steps in counted.items())), delta)


@functools.lru_cache(maxsize=4096)
def _epsilon(history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    if not history:
        return 0.0
    if any(noise == 0 for noise, _, _ in history):
        return math.inf
    from opacus.accountants import PRVAccountant, RDPAccountant  # takes seconds, and most commands need no ε

    rdp, prv = RDPAccountant(), PRVAccountant()
    rdp.history = prv.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "optimal order is the largest alpha": RDP is only the cross-check
        bound = _number("RDP", rdp.get_epsilon(delta=delta))
        if bound > PRV_MAX_EPSILON or sum(steps for _, _, steps in history) > PRV_MAX_STEPS:
            return bound
        try:
            value = _number("PRV", prv.get_epsilon(delta=delta))
        except ValueError:  # δ below what PRV's floating point resolves
            return bound
    if value > bound + PRV_SLACK:
        raise PromptferryError(
            f"accountants disagree: PRV ε {value:.4f} above RDP ε {bound:.4f} at δ {delta}; no ε is reported"
        )
    return value


def _number(accountant: str, value: float) -> float:
    if math.isnan(value):  # which `max` would take for 0
        raise PromptferryError(f"{accountant} ε is {value}, must be a number; no ε is reported")
    return max(0.0, float(value))


def calibrate(target_epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier σ ≥ 0.1 whose `steps` at `sample_rate` cost at most `target_epsilon`.

    Guarantee:
        `epsilon` of one spend with the returned σ is at most `target_epsilon` at `delta`. σ is at most 0.1 % larger
        than necessary, or 0.1.

    Edge cases:
        An infinite target gives 0, no noise and no privacy, whatever the other arguments are. `sample_rate` 1 is
        allowed, 0 is refused.

    Raises:
        UsageError: the target is not > 0 or NaN, `delta` or a range of `Spend` is broken, or no σ up to 10 000
            reaches the target.
    """
    if not target_epsilon > 0:
        raise UsageError(f"target ε {target_epsilon} must be > 0")
    if math.isinf(target_epsilon):
        return 0.0

    def excess(sigma: float) -> float:
        return math.log(max(epsilon([Spend(sigma, sample_rate, steps)], delta), 1e-300) / target_epsilon)

    low, high = 0.1, 1.0
    above, below = excess(low), excess(high)
    if above <= 0:
        return low
    while below > 0:
        low, high, above = high, high * 2, below
        if high > 10_000:
            raise UsageError(
                f"no noise reaches ε {target_epsilon} at δ {delta} in {steps} steps; raise ε or lower the steps"
            )
        below = excess(high)
    while high - low > 1e-3 * high:  # `high` always meets the target, `low` never does
        guess = low * (high / low) ** (above / (above - below))  # log ε is nearly linear in log σ
        margin = 4e-4 * high  # keeps a guess off both ends, so that each of them moves in turn
        middle = min(max(guess, low + margin), high - margin)
        here = excess(middle)
        low, high, above, below = (middle, high, here, below) if here > 0 else (low, middle, above, here)
    return high
