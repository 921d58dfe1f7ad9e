import math

import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from transfer import privacy
from transfer.errors import PromptferryError, UsageError
from transfer.privacy import Budget, Guarantee, Spend, calibrate, default_delta, epsilon, unit_of

# (σ, q, T, δ) → ε of dp-accounting 0.6.0's privacy loss distributions, add/remove one
QUICK_GOLDENS = [
    (1.5, 0.04, 100, 1e-5, 1.3141),
    (1.0, 0.01, 1000, 1e-5, 1.8282),
    (0.5, 0.1, 50, 1e-5, 22.6229),
    (1.0, 1.0, 20, 1e-5, 28.3735),
    (4.472, 1.0, 20, 1e-5, 4.3773),
    (8.0, 0.05, 100, 1e-6, 0.2470),
    (20.0, 0.01, 10, 1e-5, 0.0034),
    (50.0, 0.001, 1, 1e-5, 0.0),
    (0.3, 0.01, 10, 1e-5, 14.8282),
    (10.0, 0.001, 100, 1e-9, 0.0049),
]
SLOW_GOLDENS = [
    (2.0, 0.25, 400, 1e-6, 15.8952),
    (0.6, 0.02, 5000, 1e-5, 33.8934),
    (1.0, 0.001, 100_000, 1e-7, 2.0652),
]
ERROR = 0.011  # PRV rounds ε up by its own 0.01
NOISE, RATE, STEPS = st.floats(1, 10), st.floats(0.01, 0.2), st.integers(1, 20)


@pytest.mark.promise("accountant")
@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "golden"),
    [*QUICK_GOLDENS, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_GOLDENS)],
)
def test_epsilon_is_never_below_the_exact_value_and_hardly_above(noise, rate, steps, delta, golden, measured):
    told = epsilon([Spend(noise, rate, steps)], delta)
    measured(above_the_exact_value=told - golden)
    assert golden <= told <= golden + 0.02


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.2, 0.2, 30), (3.0, 1.0, 12)])
def test_epsilon_agrees_with_another_implementation(noise, rate, steps):
    exact = pld.privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=1e-3, use_connect_dots=True
    )
    reference = exact.self_compose(steps).get_epsilon_for_delta(1e-5)
    assert reference - 1e-3 <= epsilon([Spend(noise, rate, steps)], 1e-5) <= reference + 0.02


def test_a_mixed_history_agrees_with_another_implementation():
    parts = [(1.2, 0.2, 10), (3.0, 1.0, 5)]
    exact = [
        pld.privacy_loss_distribution.from_gaussian_mechanism(
            noise, sampling_prob=rate, value_discretization_interval=1e-3
        ).self_compose(steps)
        for noise, rate, steps in parts
    ]
    reference = exact[0].compose(exact[1]).get_epsilon_for_delta(1e-5)
    ours = epsilon([Spend(*part) for part in parts], 1e-5)
    assert reference - 1e-3 <= ours <= reference + 0.02


@pytest.mark.promise("accountant")
@settings(deadline=None, max_examples=4)
@given(NOISE, RATE, STEPS)
def test_more_steps_more_records_or_less_noise_never_cost_less(noise, rate, steps):
    cost = epsilon([Spend(noise, rate, steps)], 1e-5)
    assert epsilon([Spend(noise, rate, 2 * steps)], 1e-5) >= cost - ERROR
    assert epsilon([Spend(noise, min(1.0, 1.5 * rate), steps)], 1e-5) >= cost - ERROR
    assert epsilon([Spend(noise / 1.5, rate, steps)], 1e-5) >= cost - ERROR


@settings(deadline=None, max_examples=3)
@given(
    st.lists(st.builds(Spend, NOISE, RATE, STEPS), min_size=2, max_size=3), st.randoms(use_true_random=False)
)
def test_neither_order_nor_grouping_of_spends_changes_epsilon(spends, source):
    whole = epsilon(spends, 1e-5)
    split = [
        part
        for spend in spends
        for part in [Spend(spend.noise_multiplier, spend.sample_rate, 1)] * spend.steps
    ]
    source.shuffle(split)
    assert epsilon(split, 1e-5) == whole


@pytest.mark.promise("accountant")
def test_accountants_that_contradict_each_other_report_nothing(monkeypatch):
    spend = Spend(2.125, 0.015, 7)
    upper = RDPAccountant()
    upper.history = [(2.125, 0.015, 7)]
    bound = upper.get_epsilon(delta=1e-5)
    for excess in (0.01, 0.02, 0.022):
        monkeypatch.setattr(PRVAccountant, "get_epsilon", lambda _, delta, more=excess: bound + more)
        privacy._epsilon.cache_clear()
        if excess <= 0.02:
            assert epsilon([spend], 1e-5) == bound + excess
            continue
        with pytest.raises(
            PromptferryError, match=r"accountants disagree: PRV ε .* above RDP ε .* at δ 1e-05"
        ):
            epsilon([spend], 1e-5)
    monkeypatch.undo()
    privacy._epsilon.cache_clear()
    assert epsilon([spend], 1e-5) < bound


@pytest.mark.parametrize(("broken", "name"), [(PRVAccountant, "PRV"), (RDPAccountant, "RDP")])
def test_an_accountant_that_ends_in_no_number_reports_nothing(monkeypatch, broken, name):
    monkeypatch.setattr(broken, "get_epsilon", lambda _, delta: math.nan)
    with pytest.raises(PromptferryError, match=f"^{name} ε is nan, must be a number; no ε is reported"):
        epsilon([Spend(2.25, 0.015, 7)], 1e-5)


def test_nothing_spent_costs_nothing_and_no_noise_is_no_privacy():
    assert epsilon([], 1e-5) == 0
    assert epsilon([Spend(0.0, 0.01, 1)], 1e-5) == math.inf
    assert epsilon([Spend(1.0, 0.01, 10), Spend(0.0, 0.01, 1)], 1e-5) == math.inf


@pytest.mark.promise("accountant")
@pytest.mark.parametrize(
    "spend",
    [
        Spend(0.001, 0.01, 10),
        Spend(0.01, 1.0, 2**62),
        Spend(1.0, 1e-6, 10**8),
        Spend(1e6, 1.0, 2**40),
        Spend(1.0, 5e-324, 1),
    ],
)
def test_whatever_a_peer_names_is_priced_at_once(spend):
    assert 0 <= epsilon([spend], 1e-6) < math.inf


def test_a_delta_beyond_floating_point_falls_back_to_the_upper_bound():
    spends = [Spend(8.0, 0.01, 1)]
    assert math.inf > epsilon(spends, 1e-300) > epsilon(spends, 1e-9)


def test_a_budget_covers_up_to_its_boundary_and_not_beyond():
    spends = [Spend(1.0, 0.1, 10)]
    cost = epsilon(spends, 1e-5)
    assert Budget(cost, 1e-5).covers(spends)
    assert not Budget(math.nextafter(cost, 0), 1e-5).covers(spends)
    assert not Budget(cost, 1e-6).covers(spends)
    assert not Budget(cost, 1e-5).covers([*spends, Spend(1.0, 0.1, 1)])


def test_only_an_infinite_budget_covers_a_run_without_noise():
    spends = [Spend(0.0, 1.0, 1)]
    assert Budget(math.inf, 1e-5).covers(spends)
    assert not Budget(1e308, 1e-5).covers(spends)


@pytest.mark.promise("accountant")
@pytest.mark.parametrize(
    ("target", "rate", "steps"),
    [
        (10.0, 1.0, 20),
        pytest.param(1.0, 0.1, 60, marks=pytest.mark.slow),
        pytest.param(50.0, 0.5, 10, marks=pytest.mark.slow),
    ],
)
def test_calibrated_noise_keeps_to_the_target_and_is_hardly_more_than_needed(target, rate, steps, measured):
    noise = calibrate(target, 1e-6, rate, steps)
    reached = epsilon([Spend(noise, rate, steps)], 1e-6)
    measured(reached_over_target=reached / target)
    assert reached <= target
    assert epsilon([Spend(noise * 0.995, rate, steps)], 1e-6) > target


@pytest.mark.parametrize("power", [0.25, 1, 2, 8])
@pytest.mark.parametrize("target", [1e-3, 0.09, 0.7, 0.999, 1.0, 1.1, 3.0, 7.0, 9.9, 10.0])
def test_noise_is_found_to_a_thousandth_in_few_steps_on_any_curve(monkeypatch, power, target):
    tried = []

    def curve(spends, _delta):
        [spend] = spends
        tried.append(spend.noise_multiplier)
        return spend.noise_multiplier**-power

    monkeypatch.setattr(privacy, "epsilon", curve)
    if curve([Spend(10_000, 0.1, 1)], 1e-6) > target:
        with pytest.raises(UsageError, match="no noise reaches ε"):
            calibrate(target, 1e-6, 0.1, 1)
        return
    tried.clear()
    noise = calibrate(target, 1e-6, 0.1, 1)
    assert len(tried) <= 6 + max(0, math.log2(noise))
    assert curve([Spend(noise, 0.1, 1)], 1e-6) <= target
    assert noise == 0.1 or curve([Spend(0.999 * noise, 0.1, 1)], 1e-6) > target
    assert (noise == 0.1) == (0.1**-power <= target)


def test_no_target_is_too_large_for_the_least_noise():
    assert epsilon([Spend(0.1, 0.1, 10)], 1e-6) < 1e5
    assert calibrate(1e5, 1e-6, 0.1, 10) == 0.1


def test_no_privacy_needs_no_noise():
    assert calibrate(math.inf, 1e-6, 1.0, 20) == 0.0


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, 1e-4])
def test_an_epsilon_no_noise_reaches_is_refused(target):
    with pytest.raises(UsageError, match="ε"):
        calibrate(target, 1e-6, 1.0, 20)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        *((Spend, (noise, 0.1, 1)) for noise in (-1.0, 1e-4, 1.1e6, math.inf, math.nan)),
        *((Spend, (1.0, rate, 1)) for rate in (0.0, -0.1, 1.1, math.nan)),
        *((Spend, (1.0, 0.1, steps)) for steps in (0, -1)),
        *((Budget, (limit, 1e-5)) for limit in (0.0, -1.0, math.nan)),
        *((Budget, (1.0, delta)) for delta in (0.0, 1.0, math.nan)),
        *((Guarantee, (claim, 1e-5)) for claim in (-0.1, math.nan)),
        *((Guarantee, (1.0, delta)) for delta in (0.0, 1.0, math.nan)),
        *((kind, (1.0, *rest, "household")) for kind, rest in ((Spend, (0.1, 1)), (Guarantee, (1e-5,)))),
    ],
)
def test_impossible_values_are_refused(build, arguments):
    with pytest.raises(UsageError, match="must be"):
        build(*arguments)


def test_a_delta_is_refused_by_the_name_of_what_it_belongs_to():
    with pytest.raises(UsageError, match=r"^budget δ 2 must be"):
        Budget(1.0, 2)
    with pytest.raises(UsageError, match=r"^guaranteed δ 2 must be"):
        Guarantee(1.0, 2)


@pytest.mark.parametrize("small", [1e-9, 0.5])
def test_small_values_are_possible(small):
    assert Budget(small, small).covers([])
    claim = Guarantee(small, small)
    assert (claim.epsilon, claim.delta, claim.unit) == (small, small, "record")
    assert Guarantee(0.0, small).epsilon == 0


@pytest.mark.parametrize("delta", [1.0, 1.5, 0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("spends", [[], [Spend(0.0, 1.0, 1)], [Spend(1.0, 0.1, 10)]])
def test_no_epsilon_is_told_at_a_delta_that_is_no_probability_below_one(delta, spends):
    for judge in (lambda: epsilon(spends, delta), lambda: calibrate(1.0, delta, 0.1, 10)):
        with pytest.raises(UsageError, match=rf"^δ {delta} must be in \(0, 1\)$"):
            judge()


def test_spends_of_different_units_are_never_one_history():
    record, user = Spend(1.0, 0.1, 10), Spend(1.0, 0.1, 10, "user")
    for spends in ([record, user], [user, record, record], [Spend(0.0, 1.0, 1), user]):
        for judge in (lambda all_: epsilon(all_, 1e-5), unit_of, Budget(math.inf, 1e-5).covers):
            with pytest.raises(UsageError, match=r"for one record and .* for one user do not compose"):
                judge(iter(spends))


def test_a_unit_changes_what_is_protected_and_not_what_it_costs():
    record, user = Spend(1.0, 0.1, 10), Spend(1.0, 0.1, 10, "user")
    assert epsilon([user, user], 1e-5) == epsilon([record, record], 1e-5)
    assert (unit_of([user]), unit_of([record]), unit_of([])) == ("user", "record", None)


@pytest.mark.promise("statement")
def test_delta_shrinks_with_the_data_and_is_never_above_a_millionth(measured):
    measured(delta_of_100=default_delta(100), of_a_million=default_delta(10**6))
    assert default_delta(100) == 1e-6
    assert default_delta(10**6) == 1e-7


@pytest.mark.promise("accountant")
def test_the_accountant_that_reports_too_little_is_out_of_reach():
    assert privacy.ADJACENCY == "add/remove one"  # what the others account for
    assert not [name for name in vars(privacy) if "gdp" in name.lower() or "gaussian" in name.lower()]
    assert "PRV" in privacy.accountant_name()
