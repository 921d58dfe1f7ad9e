"""`promptferry-client plan | policy`: what a campaign would cost, and whether it is allowed."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.bar import Bar
from rich.console import Group
from rich.table import Table

from transfer.errors import BudgetRefusedError, PolicyRefusedError, UsageError
from transfer.terminal import console
from transfer.terminal.session import of

if TYPE_CHECKING:
    from client.home.settings import ClientConfig
    from client.rounds.forecast import Forecast
    from client.rounds.policy import Ask

app = console.application("The policy: what a coordinator may ask for.")

BAR_WIDTH = 40

PlanFile = Annotated[Path | None, typer.Argument(help="The operator's plan; options override its values.")]
Noise = Annotated[float | None, typer.Option(help="Noise multiplier σ; 0 for no privacy.")]
Rate = Annotated[float | None, typer.Option(help="Probability that a unit takes part in a step.")]
Steps = Annotated[int | None, typer.Option(help="Noisy steps per round.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds of the campaign.")]
UnitOption = Annotated[str, typer.Option(help="Unit of privacy: record or user.")]


def plan(
    context: typer.Context,
    file: PlanFile = None,
    noise: Noise = None,
    sample_rate: Rate = None,
    steps: Steps = None,
    rounds: Rounds = None,
) -> None:
    """Show round by round what a campaign would add to the spend so far, and where the budget ends.

    Exits with status 5 if the budget does not cover even the first round.
    """
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    with console.doing("computing ε of every round"):
        ask = _ask(settings, file, {"noise_multiplier": noise, "sample_rate": sample_rate, "steps": steps})
        forecast = _forecast(settings, ask if rounds is None else replace(ask, rounds=rounds))
    report = {
        "spent": forecast.epsilons[0],
        "delta": forecast.budget.delta,
        "unit": forecast.spend.unit,
        "budget": forecast.budget.epsilon,
        "rounds": [
            {"round": number, "epsilon": cost, "covered": forecast.covers(number)}
            for number, cost in enumerate(forecast.epsilons[1:], 1)
        ],
        "refused_from": forecast.refused_from,
    }
    session.emit(report, _planned)
    if forecast.refused_from == 1:
        sys.stderr.write("error: the budget does not cover round 1\n")
        raise typer.Exit(BudgetRefusedError.exit_status)


def _planned(report: dict[str, Any]) -> Group:
    """The table of rounds; each ε is a bar, green while the budget covers it."""
    unit = f"ε at δ {report['delta']:g} for one {report['unit']}"
    table = Table("round", unit, "", f"of ε {report['budget']:g}")
    longest = max([report["spent"], *(row["epsilon"] for row in report["rounds"])])
    so_far = {"round": "so far", "epsilon": report["spent"], "covered": True}
    for row in (so_far, *report["rounds"]):
        colour, word = ("green", "covered") if row["covered"] else ("red", "[red]refused")
        bar = Bar(longest or 1.0, 0.0, row["epsilon"], width=BAR_WIDTH, color=colour)
        verdict = "" if row is so_far else word
        drawn = bar if longest < float("inf") else ""
        table.add_row(str(row["round"]), f"{row['epsilon']:.4g}", drawn, verdict)
    ends = report["refused_from"]
    return Group(
        table, "the budget covers every round" if ends is None else f"the budget ends before round {ends}"
    )


@app.command("check")
def check(
    context: typer.Context,
    file: PlanFile = None,
    task: Annotated[str, typer.Option(help="Name of the task.")] = "",
    proxy: Annotated[str, typer.Option(help="Digest of the proxy, or name of a local one.")] = "",
    noise: Noise = None,
    sample_rate: Rate = None,
    steps: Steps = None,
    rounds: Rounds = None,
    cohort: Annotated[int | None, typer.Option(help="Fewest clients that are averaged.")] = None,
    unit: UnitOption = "",
) -> None:
    """Check a plan against policy and ledger, rule by rule, before any round starts."""
    from client.home import settings as config
    from client.rounds.policy import verdicts

    session = of(context)
    settings = config.read(session.directory)
    spend = {"noise_multiplier": noise, "sample_rate": sample_rate, "steps": steps, "unit": unit or None}
    given = {"task": task or None, "proxy": proxy or None, "rounds": rounds, "cohort": cohort}
    with console.doing("checking policy and ledger"):
        ask = replace(_ask(settings, file, spend), **_without_none(given))
        if not (ask.task and ask.proxy):
            raise UsageError("give a plan file, or --task and --proxy")
        known = replace(ask, proxy=_digest(settings, ask.proxy))
        ledger = _forecast(settings, ask).verdict
        rules = [*verdicts(settings.limits(), known, datetime.now(UTC)), ledger]
    session.emit({"allowed": all(verdict.allowed for verdict in rules), "verdicts": rules}, _judged)
    refused = [verdict.rule for verdict in rules if not verdict.allowed]
    if refused:
        sys.stderr.write(f"error: refused by {', '.join(refused)}\n")
        only_budget = refused == [ledger.rule]
        raise typer.Exit((BudgetRefusedError if only_budget else PolicyRefusedError).exit_status)


def _judged(report: dict[str, Any]) -> Table:
    table = Table("rule", "", "why")
    for verdict in report["verdicts"]:
        table.add_row(verdict.rule, "allowed" if verdict.allowed else "[red]refused", verdict.why)
    return table


def _ask(settings: "ClientConfig", file: Path | None, given: dict[str, Any]) -> "Ask":
    """Return what the plan file asks for; parts of a spend that are given (not None) replace its own."""
    from client.rounds import forecast
    from client.rounds.policy import Ask
    from transfer.privacy import Spend, Unit

    parts = _without_none(given)
    if file is not None:
        ask = forecast.read(file)
        return replace(ask, spend=replace(ask.spend, **parts))
    if missing := {"noise_multiplier", "sample_rate", "steps"} - set(parts):
        options = ", ".join(
            sorted("--" + name.removesuffix("_multiplier").replace("_", "-") for name in missing)
        )
        raise UsageError(f"give a plan file, or {options} as well")
    unit = cast(Unit, parts.pop("unit", settings.data.unit))
    return Ask(task="", proxy="", spend=Spend(**parts, unit=unit), rounds=1)


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _forecast(settings: "ClientConfig", ask: "Ask") -> "Forecast":
    from client.home import custody
    from client.ledger.ledger import Ledger
    from client.rounds.forecast import Forecast

    with Ledger.open(custody.load(settings).ledger) as ledger:
        return Forecast.of(ledger, ask.spend, ask.rounds, settings.limits().budget)


def _digest(settings: "ClientConfig", proxy: str) -> str:
    """Return the digest of a local proxy given by name; anything else stays as it is."""
    from client.rounds.proxies import Proxies
    from transfer.model_ref import ModelRef

    named = (path for path in Proxies(settings.proxies_directory).directories() if path.name == proxy)
    return next((ModelRef.of_directory(proxy, path).digest for path in named), proxy)
