"""`promptferry-client plan | policy`: what a campaign would cost, and what is allowed."""

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
    from client.rounds.plan import Forecast
    from client.rounds.policy import Ask

app = console.application("The policy: what a coordinator may ask for.")

BAR_WIDTH = 40

PlanFile = Annotated[
    Path | None, typer.Argument(help="The operator's plan; what is given beside it comes first.")
]
Noise = Annotated[float | None, typer.Option(help="Noise multiplier σ; 0 for no privacy.")]
Rate = Annotated[float | None, typer.Option(help="Probability that a unit takes part in a step.")]
Steps = Annotated[int | None, typer.Option(help="Noisy steps a round.")]
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
    """Show what a campaign would cost on top of what was spent, round by round, and where the budget ends.

    Ends with status 5 if the budget does not cover even the first.
    """
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    with console.doing("computing ε of every round"):
        ask = _ask(settings, file, {"noise_multiplier": noise, "sample_rate": sample_rate, "steps": steps})
        found = _forecast(settings, ask if rounds is None else replace(ask, rounds=rounds))
    told = {
        "spent": found.epsilons[0],
        "delta": found.budget.delta,
        "unit": found.spend.unit,
        "budget": found.budget.epsilon,
        "rounds": [
            {"round": number, "epsilon": cost, "covered": found.covers(number)}
            for number, cost in enumerate(found.epsilons[1:], 1)
        ],
        "refused_from": found.refused_from,
    }
    session.emit(told, _planned)
    if found.refused_from == 1:
        sys.stderr.write("error: the budget does not cover round 1\n")
        raise typer.Exit(BudgetRefusedError.exit_status)


def _planned(told: dict[str, Any]) -> Group:
    """The table, with each ε drawn as a bar and the budget as the end of the green ones."""
    table = Table("round", f"ε at δ {told['delta']:g} for one {told['unit']}", "", f"of ε {told['budget']:g}")
    longest = max([told["spent"], *(row["epsilon"] for row in told["rounds"])])
    so_far = {"round": "so far", "epsilon": told["spent"], "covered": True}
    for row in (so_far, *told["rounds"]):
        colour, word = ("green", "covered") if row["covered"] else ("red", "[red]refused")
        bar = Bar(longest or 1.0, 0.0, row["epsilon"], width=BAR_WIDTH, color=colour)
        said = "" if row is so_far else word
        table.add_row(str(row["round"]), f"{row['epsilon']:.4g}", bar if longest < float("inf") else "", said)
    ends = told["refused_from"]
    return Group(
        table, "the budget covers every round" if ends is None else f"the budget ends before round {ends}"
    )


@app.command("check")
def check(
    context: typer.Context,
    file: PlanFile = None,
    task: Annotated[str, typer.Option(help="Name of the task.")] = "",
    proxy: Annotated[str, typer.Option(help="Digest of the proxy, or name of one that is here.")] = "",
    noise: Noise = None,
    sample_rate: Rate = None,
    steps: Steps = None,
    rounds: Rounds = None,
    cohort: Annotated[int | None, typer.Option(help="Fewest clients that are averaged.")] = None,
    unit: UnitOption = "",
) -> None:
    """Ask policy and ledger what they would say to a plan, rule by rule, before any round is asked."""
    from client.home import settings as config
    from client.rounds.policy import verdicts

    session = of(context)
    settings = config.read(session.directory)
    spend = {"noise_multiplier": noise, "sample_rate": sample_rate, "steps": steps, "unit": unit or None}
    given = {"task": task or None, "proxy": proxy or None, "rounds": rounds, "cohort": cohort}
    with console.doing("asking policy and ledger"):
        ask = replace(_ask(settings, file, spend), **_without_none(given))
        if not (ask.task and ask.proxy):
            raise UsageError("give a plan file, or --task and --proxy")
        known = replace(ask, proxy=_digest(settings, ask.proxy))
        found = verdicts(settings.limits(), known, datetime.now(UTC))
        ledger = _forecast(settings, ask).verdict
    session.emit({"allowed": all(v.allowed for v in (*found, ledger)), "verdicts": [*found, ledger]}, _judged)
    refused = [verdict.rule for verdict in (*found, ledger) if not verdict.allowed]
    if refused:
        sys.stderr.write(f"error: refused by {', '.join(refused)}\n")
        only_budget = refused == [ledger.rule]
        raise typer.Exit((BudgetRefusedError if only_budget else PolicyRefusedError).exit_status)


def _judged(found: dict[str, Any]) -> Table:
    table = Table("rule", "", "why")
    for verdict in found["verdicts"]:
        table.add_row(verdict.rule, "allowed" if verdict.allowed else "[red]refused", verdict.why)
    return table


def _ask(settings: "ClientConfig", file: Path | None, given: dict[str, Any]) -> "Ask":
    """What the plan file asks for, with the parts of a spend that are given (not None) in place of its own."""
    from client.rounds import plan as plans
    from client.rounds.policy import Ask
    from transfer.privacy import Spend, Unit

    parts = _without_none(given)
    if file is not None:
        ask = plans.read(file)
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
    from client.rounds.plan import Forecast

    with Ledger.open(custody.load(settings).ledger) as ledger:
        return Forecast.of(ledger, ask.spend, ask.rounds, settings.limits().budget)


def _digest(settings: "ClientConfig", proxy: str) -> str:
    """The digest of a proxy that is here, known by name; anything else is left as it is."""
    from client.rounds.proxies import Proxies
    from transfer.model_ref import ModelRef

    found = (path for path in Proxies(settings.proxies_directory).directories() if path.name == proxy)
    return next((ModelRef.of_directory(proxy, path).digest for path in found), proxy)
