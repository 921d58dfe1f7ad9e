"""The data owner's policy: what a coordinator may ask of this client. Everything else is refused.

A coordinator's request is an `Ask`, free of wire types. `verdicts` judges it rule by rule; `check` raises if any rule
refuses it. The ledger, not the policy, decides whether the privacy budget still covers the spend.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from transfer.errors import PolicyRefusedError, UsageError
from transfer.privacy import Budget, Spend, Unit

ANY = "*"
"""As the only entry of `tasks` or `proxies`: every task, or every proxy that the pinned coordinator signed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits set by the data owner. Without `tasks` and `proxies` nothing is allowed.

    Attributes:
        budget: the most ever revealed about one unit of a data set; δ at most 1/(10·declared_units).
        declared_units: public, rounded number of units, ≥ 1, in place of the private count.
        tasks: names allowed, or ("*",).
        proxies: digests allowed, or ("*",).
        min_noise_multiplier: least σ, ≥ 0.
        max_sample_rate: greatest q, in (0, 1].
        max_steps: most steps in a round, ≥ 1; None for no limit.
        max_rounds: most rounds in a campaign, ≥ 1; None for no limit.
        hours: UTC hours [from, until) in which rounds are answered, each 0–24; (22, 6) spans midnight;
            None for always.
        min_cohort: fewest clients whose prompts are averaged, ≥ 1.
        unit: the unit of privacy; rounds for another unit are refused.
    """

    budget: Budget
    declared_units: int
    tasks: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    min_noise_multiplier: float = 0.0
    max_sample_rate: float = 1.0
    max_steps: int | None = None
    max_rounds: int | None = None
    hours: tuple[int, int] | None = None
    min_cohort: int = 1
    unit: Unit = "record"

    def __post_init__(self) -> None:
        declared = f"declared_{self.unit}s"
        _require_at_least_one(declared, self.declared_units)
        _require_at_least_one("max_steps", self.max_steps)
        _require_at_least_one("max_rounds", self.max_rounds)
        _require_at_least_one("min_cohort", self.min_cohort)
        if self.budget.delta > 1 / (10 * self.declared_units):
            raise UsageError(
                f"policy δ {self.budget.delta:g} is above 1/(10·{declared}) = "
                f"{1 / (10 * self.declared_units):g}: a whole {self.unit} could leak within it"
            )
        if not self.min_noise_multiplier >= 0:
            raise UsageError(f"policy min_noise_multiplier {self.min_noise_multiplier} must be ≥ 0")
        if not 0 < self.max_sample_rate <= 1:
            raise UsageError(f"policy max_sample_rate {self.max_sample_rate} must be in (0, 1]")
        if self.hours is not None and not (
            all(0 <= h <= 24 for h in self.hours) and len(set(self.hours)) == 2
        ):
            raise UsageError(f"policy hours {self.hours} must be two different hours between 0 and 24")


@dataclass(frozen=True, slots=True)
class Ask:
    """What each round of a campaign asks of a client.

    Attributes:
        task: name of the task.
        proxy: digest of the proxy to tune on; in a plan, the proxy's name at the coordinator.
        spend: privacy cost of the round.
        rounds: rounds of the whole campaign, ≥ 1.
        cohort: fewest clients the coordinator promises to average, ≥ 1.
    """

    task: str
    proxy: str
    spend: Spend
    rounds: int
    cohort: int = 1

    def __post_init__(self) -> None:
        _require_at_least_one("rounds", self.rounds)
        _require_at_least_one("cohort", self.cohort)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule's answer: `rule` is the policy key, `why` names the value asked and the value allowed."""

    rule: str
    allowed: bool
    why: str


def check(policy: Policy, ask: Ask, now: datetime) -> None:
    """Return if every rule allows the ask. `now` has a time zone.

    Raises:
        PolicyRefusedError: names each policy key that refuses, the value asked and the value allowed.
    """
    refused = [f"{v.rule}: {v.why}" for v in verdicts(policy, ask, now) if not v.allowed]
    if refused:
        raise PolicyRefusedError("policy " + "; ".join(refused))


def verdicts(policy: Policy, ask: Ask, now: datetime) -> list[Verdict]:
    """Return the answers of all rules, always in the same order. `now` has a time zone."""
    return [*_who_and_when(policy, ask, now), *_how_much(policy, ask)]


def _who_and_when(policy: Policy, ask: Ask, now: datetime) -> Iterator[Verdict]:
    yield _one_of("tasks", ask.task, policy.tasks)
    yield _one_of("proxies", ask.proxy, policy.proxies)
    yield _verdict(
        "min_cohort", ask.cohort >= policy.min_cohort, f"{ask.cohort}", f"at least {policy.min_cohort}"
    )
    yield _within_hours(policy.hours, now)


def _how_much(policy: Policy, ask: Ask) -> Iterator[Verdict]:
    yield _verdict("unit", ask.spend.unit == policy.unit, ask.spend.unit, policy.unit)
    noise, rate = ask.spend.noise_multiplier, ask.spend.sample_rate
    least = policy.min_noise_multiplier
    yield _verdict("min_noise_multiplier", noise >= least, f"{noise:g}", f"at least {least:g}")
    yield _verdict(
        "budget.epsilon",
        noise > 0 or policy.budget.epsilon == float("inf"),
        f"noise multiplier {noise:g}",
        f"ε {policy.budget.epsilon:g}" + ("" if policy.budget.epsilon == float("inf") else ", so some noise"),
    )
    most = policy.max_sample_rate
    yield _verdict("max_sample_rate", rate <= most, f"{rate:g}", f"at most {most:g}")
    yield _at_most("max_steps", ask.spend.steps, policy.max_steps)
    yield _at_most("max_rounds", ask.rounds, policy.max_rounds)


def _one_of(rule: str, value: str, allowed: tuple[str, ...]) -> Verdict:
    return _verdict(rule, allowed == (ANY,) or value in allowed, repr(value), ", ".join(allowed) or "none")


def _at_most(rule: str, value: int, most: int | None) -> Verdict:
    return _verdict(
        rule, most is None or value <= most, f"{value}", "any" if most is None else f"at most {most}"
    )


def _within_hours(hours: tuple[int, int] | None, now: datetime) -> Verdict:
    if now.tzinfo is None:
        raise UsageError(f"time {now} has no time zone: policy hours are UTC")
    hour = now.astimezone(UTC).hour
    value = f"{hour:02d} h UTC"  # no minutes: a request repeated within the hour is the same decline in the ledger
    if hours is None:
        return _verdict("hours", True, value, "always")
    start, end = hours
    inside = start <= hour < end if start < end else (hour >= start or hour < end)
    return _verdict("hours", inside, value, f"{start:02d}–{end:02d} h UTC")


def _verdict(rule: str, passes: bool, value: str, limit: str) -> Verdict:
    return Verdict(rule, passes, f"{value} asked, {limit} allowed")


def _require_at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UsageError(f"{name} {value} must be ≥ 1")
