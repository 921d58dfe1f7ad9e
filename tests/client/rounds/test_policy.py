"""What is not allowed is refused, by name, with both values."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.rounds.policy import ANY, Ask, Policy, check, verdicts
from transfer.errors import PolicyRefusedError, UsageError
from transfer.privacy import Budget, Spend

NOON = datetime(2025, 3, 4, 12, 0, tzinfo=UTC)
POLICY = Policy(
    budget=Budget(8.0, 1e-6),
    declared_units=1000,
    tasks=("sst2", "agnews"),
    proxies=("sha256:aa",),
    min_noise_multiplier=0.8,
    max_sample_rate=0.1,
    max_steps=100,
    max_rounds=5,
    hours=(9, 17),
    min_cohort=3,
)
ASK = Ask("sst2", "sha256:aa", Spend(1.0, 0.05, 50), rounds=3, cohort=3)


def spend(noise_multiplier: float = 1.0, sample_rate: float = 0.05, steps: int = 50) -> Spend:
    return Spend(noise_multiplier, sample_rate, steps)


def test_an_ask_within_every_limit_is_allowed():
    check(POLICY, ASK, NOON)
    assert all(verdict.allowed for verdict in verdicts(POLICY, ASK, NOON))


def test_a_policy_that_names_no_task_and_no_proxy_allows_nothing():
    with pytest.raises(
        PolicyRefusedError, match=r"^policy tasks: 'sst2' asked, none allowed; proxies: .* none"
    ):
        check(Policy(Budget(8.0, 1e-6), 1000), ASK, NOON)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "imdb"}, "policy tasks: 'imdb' asked, sst2, agnews allowed"),
        ({"task": ANY}, r"policy tasks: '\*' asked, sst2, agnews allowed"),
        ({"proxy": "sha256:bb"}, "policy proxies: 'sha256:bb' asked, sha256:aa allowed"),
        (
            {"spend": spend(noise_multiplier=0.79)},
            "policy min_noise_multiplier: 0.79 asked, at least 0.8 allowed",
        ),
        ({"spend": spend(sample_rate=0.2)}, "policy max_sample_rate: 0.2 asked, at most 0.1 allowed"),
        ({"spend": spend(steps=101)}, "policy max_steps: 101 asked, at most 100 allowed"),
        ({"rounds": 6}, "policy max_rounds: 6 asked, at most 5 allowed"),
        ({"cohort": 2}, "policy min_cohort: 2 asked, at least 3 allowed"),
        ({"spend": Spend(1.0, 0.05, 50, "user")}, "policy unit: user asked, record allowed"),
    ],
)
def test_a_refusal_names_the_key_and_both_values(change: dict[str, object], message: str):
    with pytest.raises(PolicyRefusedError, match=f"^{message}$"):
        check(POLICY, replace(ASK, **change), NOON)


def test_an_owner_who_protects_users_takes_no_round_that_protects_records():
    policy = replace(POLICY, unit="user")
    check(policy, replace(ASK, spend=Spend(1.0, 0.05, 50, "user")), NOON)
    with pytest.raises(PolicyRefusedError, match=r"^policy unit: record asked, user allowed$"):
        check(policy, ASK, NOON)
    with pytest.raises(UsageError, match=r"above 1/\(10·declared_users\) = 0.0001: a whole user could leak"):
        replace(policy, budget=Budget(8.0, 2e-4))


def test_every_broken_rule_is_named_in_one_line():
    with pytest.raises(PolicyRefusedError, match=r"tasks: .*; max_steps: .*; max_rounds: ") as caught:
        check(POLICY, Ask("imdb", "sha256:aa", spend(steps=999), rounds=9, cohort=3), NOON)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hours", "allowed"),
    [
        ((9, 17), {9, 12, 16}),
        ((22, 6), {22, 23, 0, 3, 5}),
        ((0, 24), {0, 3, 5, 6, 9, 12, 16, 17, 21, 22, 23}),
        (None, {0, 3, 5, 6, 9, 12, 16, 17, 21, 22, 23}),
    ],
)
def test_hours_are_utc_start_inclusive_end_exclusive_and_may_span_midnight(hours, allowed):
    policy = replace(POLICY, hours=hours)
    for hour in (0, 3, 5, 6, 9, 12, 16, 17, 21, 22, 23):
        now = NOON.replace(hour=hour, minute=59)
        elsewhere = now.astimezone(timezone(timedelta(hours=-7)))
        for moment in (now, elsewhere):
            judged = {v.rule: v.allowed for v in verdicts(policy, ASK, moment)}
            assert judged.pop("hours") == (hour in allowed)
            assert all(judged.values())


def test_a_refused_hour_says_when_to_ask():
    with pytest.raises(PolicyRefusedError, match=r"^policy hours: 08 h UTC asked, 09–17 h UTC allowed$"):
        check(POLICY, ASK, NOON.replace(hour=8, minute=30))
    inside_an_hour = {str(verdicts(POLICY, ASK, NOON.replace(hour=8, minute=minute))) for minute in (0, 59)}
    assert (
        len(inside_an_hour) == 1
    )  # or else a round asked every minute would be sixty declines in the ledger


def test_a_time_without_a_zone_is_an_error():
    with pytest.raises(UsageError, match="no time zone"):
        check(POLICY, ASK, NOON.replace(tzinfo=None))


def test_no_noise_is_refused_unless_the_budget_is_unlimited():
    free = replace(POLICY, min_noise_multiplier=0.0)
    with pytest.raises(
        PolicyRefusedError, match=r"budget\.epsilon: noise multiplier 0 asked, ε 8, so some noise"
    ):
        check(free, replace(ASK, spend=spend(noise_multiplier=0)), NOON)
    check(replace(free, budget=Budget(math.inf, 1e-6)), replace(ASK, spend=spend(noise_multiplier=0)), NOON)


def test_a_minimum_noise_holds_under_an_unlimited_budget_too():
    unlimited = replace(POLICY, budget=Budget(math.inf, 1e-6))
    with pytest.raises(PolicyRefusedError, match="min_noise_multiplier: 0 asked"):
        check(unlimited, replace(ASK, spend=spend(noise_multiplier=0)), NOON)


@pytest.mark.promise("cohort")
def test_an_ask_that_promises_no_cohort_is_a_cohort_of_one():
    with pytest.raises(PolicyRefusedError, match="min_cohort: 1 asked, at least 3"):
        check(POLICY, Ask("sst2", "sha256:aa", spend(), rounds=1), NOON)


@pytest.mark.promise("statement")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": Budget(8.0, 2e-4)}, r"δ 0.0002 is above 1/\(10·declared_records\) = 0.0001"),
        ({"declared_units": 0}, "declared_records 0 must be ≥ 1"),
        ({"max_steps": 0}, "max_steps 0 must be ≥ 1"),
        ({"max_rounds": -1}, "max_rounds -1 must be ≥ 1"),
        ({"min_cohort": 0}, "min_cohort 0 must be ≥ 1"),
        ({"min_noise_multiplier": -0.1}, "min_noise_multiplier -0.1 must be ≥ 0"),
        ({"min_noise_multiplier": math.nan}, "min_noise_multiplier nan must be ≥ 0"),
        ({"max_sample_rate": 0.0}, r"max_sample_rate 0.0 must be in \(0, 1\]"),
        ({"max_sample_rate": 1.5}, r"max_sample_rate 1.5 must be in \(0, 1\]"),
        ({"hours": (9, 25)}, r"hours \(9, 25\) must be two different hours between 0 and 24"),
        ({"hours": (9, 9)}, r"hours \(9, 9\) must be two different hours"),
    ],
)
def test_an_impossible_policy_is_refused_on_construction(change: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        replace(POLICY, **change)


@pytest.mark.parametrize("change", [{"rounds": 0}, {"cohort": 0}])
def test_an_impossible_ask_is_refused_on_construction(change: dict[str, int]):
    with pytest.raises(UsageError, match="must be ≥ 1"):
        replace(ASK, **change)


names = st.sampled_from(["sst2", "agnews", "imdb", "*", "", "sha256:aa", "sha256:bb"])
limits = st.none() | st.integers(1, 10)
policies = st.builds(
    Policy,
    budget=st.sampled_from([Budget(1.0, 1e-6), Budget(math.inf, 1e-6)]),
    declared_units=st.integers(1, 1000),
    tasks=st.lists(names, max_size=3).map(tuple),
    proxies=st.lists(names, max_size=3).map(tuple),
    min_noise_multiplier=st.sampled_from([0.0, 0.5, 1.0]),
    max_sample_rate=st.sampled_from([0.01, 0.5, 1.0]),
    max_steps=limits,
    max_rounds=limits,
    hours=st.none() | st.tuples(st.integers(0, 24), st.integers(0, 24)).filter(lambda h: h[0] != h[1]),
    min_cohort=st.integers(1, 4),
)
asks = st.builds(
    Ask,
    task=names,
    proxy=names,
    spend=st.builds(
        Spend,
        st.sampled_from([0.0, 0.4, 0.5, 1.0, 3.0]),
        st.sampled_from([0.001, 0.5, 1.0]),
        st.integers(1, 12),
    ),
    rounds=st.integers(1, 12),
    cohort=st.integers(1, 5),
)


def allowed(policy: Policy, ask: Ask, hour: int) -> bool:
    """The same rules, said once more and differently."""
    opening = range(24)
    if policy.hours is not None:
        start, end = policy.hours
        opening = range(start, end if end > start else end + 24)
    return (
        (policy.tasks == ("*",) or ask.task in policy.tasks)
        and (policy.proxies == ("*",) or ask.proxy in policy.proxies)
        and ask.spend.noise_multiplier >= policy.min_noise_multiplier
        and (ask.spend.noise_multiplier != 0 or math.isinf(policy.budget.epsilon))
        and ask.spend.sample_rate <= policy.max_sample_rate
        and ask.spend.steps <= (policy.max_steps or math.inf)
        and ask.rounds <= (policy.max_rounds or math.inf)
        and ask.cohort >= policy.min_cohort
        and (hour in opening or hour + 24 in opening)
    )


def judge(policy: Policy, ask: Ask, hour: int) -> None:
    if allowed(policy, ask, hour):
        check(policy, ask, NOON.replace(hour=hour))
        return
    with pytest.raises(PolicyRefusedError):
        check(policy, ask, NOON.replace(hour=hour))


@settings(max_examples=500, deadline=None)
@given(policies, asks, st.integers(0, 23))
def test_whatever_is_asked_is_within_the_policy_or_refused(policy: Policy, ask: Ask, hour: int):
    judge(policy, ask, hour)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(policies, asks, st.integers(0, 23))
def test_five_thousand_asks_are_within_the_policy_or_refused(policy: Policy, ask: Ask, hour: int):
    judge(policy, ask, hour)
