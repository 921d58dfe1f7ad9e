"""Bounds hold as often as they say, and agree with closed forms and with the papers' own algorithms."""

import math

import numpy as np
import pytest
from scipy import stats

from client.audit.bounds import (
    follows_itself,
    gaussian_epsilon,
    gaussian_mu,
    gaussian_mu_bound,
    guess_chance,
    most_likely,
    most_true_positives,
    one_run_epsilon,
    rates,
    two_world_mu,
)

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(("mu", "golden"), [(2.0, 9.997), (1.0, 4.377), (0.5, 1.993), (0.25, 0.926)])
def test_epsilon_of_a_gaussian_mechanism_is_the_golden_one(mu: float, golden: float) -> None:
    found = gaussian_epsilon(mu, 1e-5)
    assert found == pytest.approx(golden, abs=1e-3)
    norm = stats.norm
    attained = norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu)
    assert attained == pytest.approx(1e-5, rel=1e-6)


def test_epsilon_of_no_distance_is_nothing_and_of_a_vast_one_vast() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-7, 1e-5) == 0.0
    assert gaussian_epsilon(60.0, 1e-5) > 1_800
    assert [gaussian_epsilon(mu, 1e-5) > 500_000 for mu in (1e3, 1e6, 1e12, math.inf)] == [True] * 4


@pytest.mark.parametrize(("successes", "trials"), [(0, 50), (7, 50), (499, 500)])
def test_a_clopper_pearson_bound_is_where_so_few_successes_are_as_unlikely_as_the_doubt(
    successes: int, trials: int
) -> None:
    bound, certain = most_likely(np.array([successes, trials]), trials, 0.01)
    assert stats.binom.cdf(successes, trials, bound) == pytest.approx(0.01)
    assert certain == 1.0


def share_above(truth: float, bounds: list[float]) -> float:
    return float(np.mean([bound > truth for bound in bounds]))


def two_worlds(mu: float, trials: int, confidence: float) -> float:
    return two_world_mu(RANDOM.normal(0, 1, trials), RANDOM.normal(mu, 1, trials), confidence)


def test_the_two_world_bound_is_rarely_above_the_truth_and_not_far_below() -> None:
    bounds = [two_worlds(1.0, 400, 0.8) for _ in range(300)]
    assert share_above(1.0, bounds) <= 0.2
    assert np.median(bounds) > 0.6
    assert two_worlds(1.0, 20_000, 1 - 1e-6) > 0.8


def test_the_two_world_bound_tells_a_greater_distance_and_sees_none_in_nothing() -> None:
    assert two_worlds(1.25, 20_000, 1 - 1e-6) > 1.05
    assert two_world_mu(np.zeros(1_000), np.ones(1_000), 0.95) > 4
    assert two_world_mu(np.zeros(1_000), np.zeros(1_000), 0.95) == 0.0
    assert two_worlds(-1.0, 1_000, 0.95) == 0.0


def test_scores_that_follow_each_other_are_told_from_independent_ones() -> None:
    drawn = RANDOM.normal(size=2_000)
    assert not follows_itself(drawn, 1 - 1e-6)
    assert follows_itself(drawn + np.roll(drawn, 1), 1 - 1e-6)
    assert follows_itself(drawn.repeat(2), 1 - 1e-6)
    assert follows_itself(np.ones(10), 1 - 1e-6)
    assert np.mean([follows_itself(RANDOM.normal(size=100), 0.9) for _ in range(400)]) < 0.15


def chance_of_the_paper(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """Appendix D of Steinke et al. 2023, word for word but for the names of scipy."""
    q = 1 / (1 + math.exp(-eps))
    beta = stats.binom.sf(v - 1, r, q)
    alpha = 0.0
    total = 0.0
    for i in range(1, v + 1):
        total = total + stats.binom.pmf(v - i, r, q)
        if total > i * alpha:
            alpha = total / i
    return min(beta + alpha * delta * 2 * m, 1.0)


@pytest.mark.parametrize(
    "case", [(1000, 100, 80, 1.0, 1e-5), (100, 100, 50, 0.0, 0.0), (500, 20, 20, 2.0, 1e-3)]
)
def test_the_chance_of_so_many_guesses_is_that_of_the_paper(case: tuple[int, int, int, float, float]) -> None:
    assert guess_chance(*case) == pytest.approx(chance_of_the_paper(*case), rel=1e-9)


def randomised_response(epsilon: float, canaries: int) -> float:
    """One-run bound at 80 % on the mechanism that is exactly (ε, 0)-DP: the coin, or its opposite, is said."""
    included = RANDOM.random(canaries) < 0.5
    honest = RANDOM.random(canaries) < 1 / (1 + math.exp(-epsilon))
    said = np.where(honest, included, ~included)
    return one_run_epsilon(said + 1e-3 * RANDOM.random(canaries), included, 0.0, 0.8)


def test_the_one_run_bound_is_rarely_above_the_truth_and_grows_with_it() -> None:
    weak = [randomised_response(1.0, 200) for _ in range(60)]
    assert share_above(1.0, weak) <= 0.2
    strong = [randomised_response(4.0, 400) for _ in range(10)]
    assert np.median(strong) > 2 > np.median(weak)


def canaries(mu: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    included = RANDOM.random(count) < 0.5
    return RANDOM.normal(0, 3, count) + 3 * mu * included, included


def test_the_gaussian_bound_is_rarely_above_the_truth_and_the_estimate_near_it() -> None:
    drawn = [canaries(1.0, 200) for _ in range(200)]
    bounds = [gaussian_mu_bound(*each, 0.8) for each in drawn]
    assert 0.1 <= share_above(1.0, bounds) <= 0.3
    assert np.mean([gaussian_mu(*each) for each in drawn]) == pytest.approx(1.0, abs=0.05)
    assert gaussian_mu_bound(*canaries(2.0, 1_000), 1 - 1e-6) > 1.3


def test_gaussian_scores_without_spread_or_without_a_group_are_no_mistake() -> None:
    included = np.arange(100) < 50
    assert gaussian_mu(included.astype(float), included) == math.inf
    assert gaussian_mu_bound(included.astype(float), included, 0.95) > 10
    assert gaussian_mu(np.zeros(100), included) == 0.0
    assert gaussian_mu_bound(RANDOM.normal(size=100), np.ones(100, dtype=bool), 0.95) == 0.0


def test_rates_count_every_threshold_and_take_ties_together() -> None:
    scores, member = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    false, true = rates(scores, member)
    assert false.tolist() == [0, 0, 0.5, 1]
    assert true.tolist() == [0, 0.5, 1, 1]


def test_random_scores_have_half_the_area() -> None:
    false, true = rates(RANDOM.normal(size=20_000), RANDOM.random(20_000) < 0.5)
    assert np.trapezoid(true, false) == pytest.approx(0.5, abs=0.02)


def test_what_a_guarantee_allows_lies_between_guessing_and_everything() -> None:
    rate = np.linspace(0, 1, 101)
    assert most_true_positives(rate, 0.0, 0.0) == pytest.approx(rate)
    some = most_true_positives(rate, 1.0, 0.01)
    assert (some >= rate).all()
    assert some[0] == pytest.approx(0.01)
    assert some[1] == pytest.approx(math.e * 0.01 + 0.01)
    assert some[90] == pytest.approx(1 - math.exp(-1) * (0.99 - 0.9))
    assert (most_true_positives(rate, math.inf, 1e-6) == 1).all()
