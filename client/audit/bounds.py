"""Lower bounds on ε that an audit's observations prove with a confidence, and the most that (ε, δ) allows.

A mechanism is μ-GDP if distinguishing neighbours is never easier than distinguishing N(0, 1) from N(μ, 1) (Dong et
al. 2019, https://arxiv.org/abs/1905.02383). The Gaussian mechanism with noise multiplier σ is μ-GDP for μ = 1/σ
exactly.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import log_ndtr, ndtr, ndtri

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]

GUESSES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of canaries to guess, fixed before any score is seen: from few sure guesses to many weak ones."""
_THRESHOLDS = 200
_LARGEST = 1e3
_FARTHEST = 200.0
"""Largest t statistic that is inverted: a larger one only proves more, and scipy's series fail there."""


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return ε ≥ 0 at `delta` of a μ-GDP mechanism, exactly (Balle & Wang 2018, https://arxiv.org/abs/1805.06530).

    A μ above `_LARGEST` counts as `_LARGEST`: neither gives privacy, and double precision ends soon after.
    """
    if mu <= 0:
        return 0.0
    mu = min(mu, _LARGEST)

    def excess(epsilon: float) -> float:
        far = math.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2))
        return float(ndtr(mu / 2 - epsilon / mu) - far - delta)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, mu * mu / 2 - mu * ndtri(delta)))


def two_world_mu(absent: Scores, present: Scores, confidence: float) -> float:
    """Return a finite lower bound on μ from independent trials without and with a record.

    The threshold is chosen on the first half of the trials and evaluated on the second, so the choice costs no
    confidence. On the second half each of the two error rates has a Clopper-Pearson upper bound that fails with
    probability at most (1 − confidence)/2 (Nasr et al. 2023, https://arxiv.org/abs/2302.07956, §4).

    Guarantee: for any scores, a μ-GDP mechanism gives more than μ with probability at most 1 − `confidence`.

    Args:
        absent: [N] scores of trials without the record.
        present: [N] scores of trials with it, greater if the record is detected.
        confidence: in (0, 1).
    """
    half, doubt = len(absent) // 2, 1 - confidence
    candidates = np.quantile(np.r_[absent[:half], present[:half]], np.linspace(0, 1, _THRESHOLDS))
    chosen = candidates[[np.argmax(_mu_at(absent[:half], present[:half], candidates, doubt))]]
    return max(0.0, float(_mu_at(absent[half:], present[half:], chosen, doubt)[0]))


def _mu_at(absent: Scores, present: Scores, thresholds: Scores, doubt: float) -> Scores:
    """Return a lower bound on μ for each threshold; trials at or above it are guessed to include the record."""
    alarms = len(absent) - np.searchsorted(np.sort(absent), thresholds)
    misses = np.searchsorted(np.sort(present), thresholds)
    false_alarm = most_likely(alarms, len(absent), doubt / 2)
    miss = most_likely(misses, len(present), doubt / 2)
    bounds: Scores = -ndtri(false_alarm) - ndtri(miss)
    return bounds


def most_likely(successes: NDArray[np.int64], trials: int, doubt: float) -> Scores:
    """Return Clopper-Pearson upper bounds on probabilities, each wrong with probability at most `doubt`."""
    failures = np.maximum(trials - successes, 1)
    return np.where(successes < trials, stats.beta.isf(doubt, successes + 1, failures), 1.0)


def follows_itself(scores: Scores, confidence: float) -> bool:
    """Tell whether each score predicts the next, as with noise that repeats or is drawn only once.

    Independent scores have a lag-1 correlation of about N(0, 1/N). They fail this test with probability
    1 − `confidence`.
    """
    if scores.std() == 0:
        return True
    correlation = float(np.corrcoef(scores[:-1], scores[1:])[0, 1])
    return abs(correlation) * math.sqrt(len(scores)) > -float(ndtri((1 - confidence) / 2))


def one_run_epsilon(scores: Scores, included: Flags, delta: float, confidence: float) -> float:
    """Return a lower bound on ε from one run with many canaries, for noise of any distribution.

    Steinke, Nasr & Jagielski 2023 (https://arxiv.org/abs/2305.08846, theorem 5.2 with its δ correction): the highest
    scores are guessed to be in, the lowest to be out. The best of `GUESSES` counts; each is tested at the level
    (1 − confidence)/len(GUESSES).

    Args:
        scores: [M], greater if the canary seems to be in.
        included: [M], independent fair coins.
        delta: δ of the guarantee.
        confidence: in (0, 1).
    """
    order, level = np.argsort(scores), (1 - confidence) / len(GUESSES)
    best = 0.0
    for share in GUESSES:
        each = max(1, round(share * len(scores) / 2))
        correct = int(included[order[-each:]].sum() + (~included[order[:each]]).sum())
        best = max(best, _guessed_epsilon(len(scores), 2 * each, correct, delta, level))
    return best


def _guessed_epsilon(canaries: int, guesses: int, correct: int, delta: float, level: float) -> float:
    """Return the largest ε (to 1e-4) that `correct` of `guesses` refute at `level`."""

    def refuted(epsilon: float) -> bool:
        return guess_chance(canaries, guesses, correct, epsilon, delta) < level

    low, high = 0.0, 1.0
    if not refuted(low):
        return 0.0
    while refuted(high) and high < 64:
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def guess_chance(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return an upper bound on the probability of so many correct guesses under (ε, δ): the paper's appendix D."""
    accuracy = 1 / (1 + math.exp(-epsilon))
    enough = float(stats.binom.sf(correct - 1, guesses, accuracy))
    fewer = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
    slope = float((fewer / np.arange(1, correct + 1)).max(initial=0.0))
    return min(1.0, enough + 2 * canaries * delta * slope)


def gaussian_mu(scores: Scores, included: Flags) -> float:
    """Estimate μ of Gaussian scores: the distance of the two group means in standard deviations.

    Andrew et al. 2023 (https://arxiv.org/abs/2302.03098) measure many canaries in one run like this.
    """
    distance, deviation = _moments(scores, included)
    if deviation == 0:
        return math.inf if distance > 0 else 0.0
    return distance / deviation


def gaussian_mu_bound(scores: Scores, included: Flags, confidence: float) -> float:
    """Return a lower bound on μ, exact (noncentral t) for independent Gaussian scores of one variance."""
    inside = int(included.sum())
    outside = len(scores) - inside
    if not (inside and outside and len(scores) > 2):
        return 0.0
    scale, freedom = math.sqrt(inside * outside / len(scores)), len(scores) - 2
    statistic = min(gaussian_mu(scores, included) * scale, _FARTHEST)

    def excess(shift: float) -> float:
        return float(stats.nct.sf(statistic, freedom, shift)) - (1 - confidence)

    if statistic <= 0 or excess(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, statistic)) / scale


def _moments(scores: Scores, included: Flags) -> tuple[float, float]:
    """Return the difference of the group means and the pooled standard deviation within groups."""
    inside, outside = scores[included], scores[~included]
    if not (len(inside) and len(outside) and len(scores) > 2):
        return 0.0, 0.0
    squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    return float(inside.mean() - outside.mean()), math.sqrt(squares / (len(scores) - 2))


def rates(scores: Scores, member: Flags) -> tuple[Scores, Scores]:
    """Return false and true positive rates of every threshold, from (0, 0) to (1, 1); ties are one threshold."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    hits, alarms = np.cumsum(member[order])[last], np.cumsum(~member[order])[last]
    return np.r_[0.0, alarms / max(1, alarms[-1])], np.r_[0.0, hits / max(1, hits[-1])]


def most_true_positives(false_positives: Scores, epsilon: float, delta: float) -> Scores:
    """Return the largest true positive rates that (ε, δ) allows: min(e^ε·FPR + δ, 1 − e^−ε·(1 − δ − FPR)).

    Kairouz et al. 2015 (https://arxiv.org/abs/1311.0776), theorem 2.1.
    """
    if math.isinf(epsilon):
        return np.ones_like(false_positives)
    few = math.exp(min(epsilon, 700.0)) * false_positives + delta
    many = 1 - math.exp(-epsilon) * (1 - delta - false_positives)
    allowed: Scores = np.clip(np.minimum(few, many), 0.0, 1.0)
    return allowed
