"""`promptferry-client plan` and `policy`: what a campaign would cost, and what is allowed."""

import shutil
from pathlib import Path

import pytest

from tests.client.commands.command import Command, spend
from transfer.model_ref import ModelRef
from transfer.privacy import Spend, epsilon


@pytest.mark.slow
def test_plan_tells_epsilon_after_each_round_and_where_the_budget_ends(ready: Command) -> None:
    each = Spend(1.0, 0.3, 20)
    spend(ready, each, 1)
    words = "plan", "--noise", 1.0, "--sample-rate", 0.3, "--steps", 20, "--rounds", 4
    planned = ready.json(*words)
    assert planned["spent"] == epsilon([each], 1e-4)
    expected = [epsilon([each] * count, 1e-4) for count in (2, 3, 4, 5)]
    assert [row["epsilon"] for row in planned["rounds"]] == expected
    assert [row["covered"] for row in planned["rounds"]] == [cost <= 8.0 for cost in expected]
    assert planned["refused_from"] == next(i for i, cost in enumerate(expected, 1) if cost > 8.0)
    assert planned["refused_from"] == 1
    assert ready(*words) == 5
    assert "the budget ends before round 1" in ready.out


def test_a_plan_without_noise_costs_everything(ready: Command) -> None:
    planned = ready.json("plan", "--noise", 0, "--sample-rate", 1, "--steps", 1)
    assert planned["rounds"] == [{"round": 1, "epsilon": "inf", "covered": False}]
    assert (ready.status, ready.err) == (5, "error: the budget does not cover round 1\n")


def test_policy_check_names_the_refusing_rule_and_ends_with_its_status(ready: Command) -> None:
    asked = "--proxy", "0" * 64, "--noise", 4, "--sample-rate", 0.5, "--steps", 10, "--cohort", 3
    assert ready("policy", "check", "--task", "reviews", *asked) == 0
    assert ready("policy", "check", "--task", "diagnoses", *asked) == 4
    assert ready.err == "error: refused by tasks\n"
    found = ready.json("policy", "check", "--task", "diagnoses", *asked)
    assert found["allowed"] is False
    assert {verdict["rule"] for verdict in found["verdicts"] if not verdict["allowed"]} == {"tasks"}


PLAN = """name = "first"
task = "task.toml"
proxy = "lab"
public_text = "public.jsonl"
rounds = 2
[tuning]
noise_multiplier = 2.0
sample_rate = 0.3
steps = 20
[publish]
prompt = "reviews"
"""


@pytest.fixture
def operators_plan(ready: Command) -> Path:
    path = ready.directory.parent / "plan.toml"
    path.write_text(PLAN)
    return path


def test_the_operators_plan_is_foreseen_and_judged_as_it_is(ready: Command, operators_plan: Path) -> None:
    each = Spend(2.0, 0.3, 20)
    assert [row["epsilon"] for row in ready.json("plan", operators_plan)["rounds"]] == [
        epsilon([each] * count, 1e-4) for count in (1, 2)
    ]
    found = ready.json("policy", "check", operators_plan)
    assert ready.status == 0
    told = {verdict["rule"]: verdict["why"] for verdict in found["verdicts"]}
    assert told["tasks"] == "'reviews' asked, reviews allowed"
    assert told["min_cohort"] == "3 asked, at least 3 allowed"
    assert told["max_epsilon"] == f"would bring ε from 0 to {epsilon([each] * 2, 1e-4):.4g}; the limit is 8"


def test_what_is_given_beside_a_plan_comes_first(ready: Command, operators_plan: Path) -> None:
    planned = ready.json("plan", operators_plan, "--noise", 3.0, "--rounds", 1)
    assert [row["epsilon"] for row in planned["rounds"]] == [epsilon([Spend(3.0, 0.3, 20)], 1e-4)]
    assert ready("policy", "check", operators_plan, "--cohort", 1, "--steps", 10) == 4
    assert ready.err == "error: refused by min_cohort\n"


def test_a_plan_beyond_the_budget_is_refused_with_the_round_it_ends_before(
    ready: Command, operators_plan: Path
) -> None:
    assert ready("policy", "check", operators_plan, "--rounds", 8) == 5
    assert ready.err == "error: refused by max_epsilon\n"
    ends = ready.json("plan", operators_plan, "--rounds", 8)["refused_from"]
    assert (ends > 1, ready.status) == (True, 0)
    told = ready.json("policy", "check", operators_plan, "--rounds", 8)["verdicts"][-1]["why"]
    assert told.endswith(f"the limit is 8; the budget ends before round {ends}")


def test_a_proxy_that_is_here_is_judged_by_its_digest(
    ready: Command, operators_plan: Path, tiny_causal: Path
) -> None:
    digest = ModelRef.of_directory("lab", tiny_causal).digest
    settings = ready.directory / "client.toml"
    settings.write_text(settings.read_text().replace('"*",', f'"{digest}",'))
    assert ready("policy", "check", operators_plan) == 4
    assert ready.err == "error: refused by proxies\n"
    shutil.copytree(tiny_causal, ready.directory / "proxies" / "lab")
    assert ready("policy", "check", operators_plan) == 0


def test_the_cost_of_a_plan_is_drawn_as_bars(ready: Command, operators_plan: Path) -> None:
    assert ready("plan", operators_plan, "--rounds", 3) == 0
    drawn = [line.count("█") for line in ready.out.splitlines()]
    assert sorted(filter(None, drawn)) == [count for count in drawn if count]
    assert len([count for count in drawn if count]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan",), "give a plan file, or --noise, --sample-rate, --steps as well"),
        (("plan", "--noise", 1, "--steps", 5), "give a plan file, or --sample-rate as well"),
        (
            ("policy", "check", "--noise", 1, "--sample-rate", 0.1, "--steps", 5),
            "give a plan file, or --task and --proxy",
        ),
        (("plan", "PLAN", "--rounds", 0), "rounds 0 must be ≥ 1"),
        (("plan", "absent.toml"), "absent.toml: cannot read the plan: No such file or directory"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused_in_one_line(
    ready: Command, operators_plan: Path, words: tuple[object, ...], message: str
) -> None:
    assert ready(*(operators_plan if word == "PLAN" else word for word in words)) == 2
    assert ready.err == f"error: {message}\n"


def test_a_misspelt_key_of_a_plan_is_named(ready: Command, operators_plan: Path) -> None:
    operators_plan.write_text(PLAN.replace("sample_rate", "sample_rte"))
    assert ready("policy", "check", operators_plan) == 2
    assert ready.err == (
        f"error: {operators_plan}: unknown key 'sample_rte' in [tuning]; did you mean 'sample_rate'?\n"
    )
