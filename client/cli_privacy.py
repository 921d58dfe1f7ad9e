"""`promptferry-client ledger | plan | policy`: what was spent, what would be, what is allowed."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from rich.console import Group
from rich.table import Table

from client.session import of
from transfer import console
from transfer.errors import PolicyRefusedError, UsageError

ledger_app = console.application("The privacy ledger: every spend, written down before it was made.")
policy_app = console.application("The policy: what a coordinator may ask for.")

Noise = Annotated[float, typer.Option(help="Noise multiplier σ; 0 for no privacy.")]
Rate = Annotated[float, typer.Option(help="Probability that a unit takes part in a step.")]
Steps = Annotated[int, typer.Option(help="Noisy steps a round.")]
Rounds = Annotated[int, typer.Option(help="Rounds of the campaign.")]


@ledger_app.command("show")
def show(context: typer.Context) -> None:
    """Show ε of each data set so far, and every entry."""
    from client import config, custody
    from client.ledger import Ledger

    session = of(context)
    settings = config.read(session.directory)
    budget = settings.limits().budget
    with Ledger.open(custody.load(settings).ledger) as ledger:
        entries = ledger.entries()
        data_sets = [
            {
                "data_set": name,
                "epsilon": ledger.epsilon(name, budget.delta),
                "delta": budget.delta,
                "budget": budget.epsilon,
                "unit": ledger.unit(name),
                "spends": len(ledger.spends(name)),
            }
            for name in ledger.data_sets()
        ]
    session.emit({"data_sets": data_sets, "entries": entries}, _shown)


def _shown(ledger: dict[str, Any]) -> Group:
    sets = Table("data set", "ε", "δ", "for one", "budget ε", "spends")
    for row in ledger["data_sets"]:
        spent = f"{row['epsilon']:.4g}", f"{row['delta']:g}", row["unit"] or ""
        sets.add_row(row["data_set"], *spent, f"{row['budget']:g}", str(row["spends"]))
    entries = Table("entry", "time", "kind", "data set", "round", "noise", "sample rate", "steps", "unit")
    for entry in ledger["entries"]:
        cost = entry.spend
        facts = ("", "", "") if cost is None else (cost.noise_multiplier, cost.sample_rate, cost.steps)
        about = entry.time, entry.kind.value, entry.data_set, entry.subject
        told = (f"{fact:g}" if fact != "" else "" for fact in facts)
        entries.add_row(str(entry.number), *about, *told, cost.unit if cost else "")
    return Group(sets, entries)


@ledger_app.command("verify")
def verify(context: typer.Context) -> None:
    """Check every entry of the ledger against the chain and the head file."""
    from client import config, custody
    from client.ledger import Ledger

    session = of(context)
    with Ledger.open(custody.load(config.read(session.directory)).ledger) as ledger:
        number, digest = ledger.head()
    session.emit(
        {"entries": number, "head": digest}, lambda head: f"{head['entries']} entries hold; head {digest}"
    )


@ledger_app.command("declare-loss")
def declare_loss(context: typer.Context, noise: Noise, sample_rate: Rate, steps: Steps) -> None:
    """Go on with a ledger whose newest entries are lost, charging an assumed spend for them."""
    from client import config, custody
    from client.ledger import Ledger
    from client.lock import locked
    from transfer.privacy import Spend

    session = of(context)
    settings = config.read(session.directory)
    assumed = Spend(noise, sample_rate, steps, settings.data.unit)
    with locked(settings.lock_file), Ledger.declare_loss(custody.load(settings).ledger, assumed) as ledger:
        charged = ledger.data_sets()
    session.emit(
        {"charged": charged}, lambda found: f"charged {', '.join(found['charged']) or 'no data set'}"
    )


@dataclass(frozen=True, slots=True)
class PlannedRound:
    """ε of the data set's whole life after a round, and whether the budget still covers it."""

    round: int
    epsilon: float
    covered: bool


def plan(context: typer.Context, noise: Noise, sample_rate: Rate, steps: Steps, rounds: Rounds = 1) -> None:
    """Show what a campaign would cost on top of what was spent, round by round, and where the budget ends."""
    from client import config, custody
    from client.ledger import Ledger
    from transfer.privacy import Spend, epsilon

    session = of(context)
    settings = config.read(session.directory)
    budget, each = settings.limits().budget, Spend(noise, sample_rate, steps, settings.data.unit)
    if rounds < 1:
        raise UsageError(f"rounds {rounds} must be ≥ 1")
    with Ledger.open(custody.load(settings).ledger) as ledger:
        lives = [ledger.spends(name) for name in ledger.data_sets()] or [[]]
    # which data set the campaign will use is known once its records are read: the most spent one is assumed
    spent = max(lives, key=lambda spends: epsilon(spends, budget.delta))
    costs = [epsilon([*spent, *[each] * count], budget.delta) for count in range(rounds + 1)]
    planned = [PlannedRound(i, cost, cost <= budget.epsilon) for i, cost in enumerate(costs[1:], 1)]
    ends = next((each.round for each in planned if not each.covered), None)
    found = {
        "spent": costs[0],
        "delta": budget.delta,
        "unit": each.unit,
        "budget": budget.epsilon,
        "rounds": planned,
        "refused_from": ends,
    }
    session.emit(found, _planned)


def _planned(found: dict[str, Any]) -> Group:
    spent = f"ε at δ {found['delta']:g} for one {found['unit']}"
    table = Table("round", spent, f"of ε {found['budget']:g}")
    table.add_row("so far", f"{found['spent']:.4g}", "")
    for planned in found["rounds"]:
        table.add_row(
            str(planned.round), f"{planned.epsilon:.4g}", "covered" if planned.covered else "[red]refused"
        )
    ends = found["refused_from"]
    return Group(
        table, "the budget covers every round" if ends is None else f"the budget ends before round {ends}"
    )


@policy_app.command("check")
def check(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Name of the task.")],
    proxy: Annotated[str, typer.Option(help="Digest of the proxy.")],
    noise: Noise,
    sample_rate: Rate,
    steps: Steps,
    rounds: Rounds = 1,
    cohort: Annotated[int, typer.Option(help="Clients invited to a round.")] = 1,
    unit: Annotated[str, typer.Option(help="Unit of privacy: record or user; yours by default.")] = "",
) -> None:
    """Ask the policy what it would say to a round, rule by rule; the budget is asked with `plan`."""
    from client import config
    from client.policy import Ask, verdicts
    from transfer.privacy import Spend, Unit

    session = of(context)
    limits = config.read(session.directory).limits()
    spend = Spend(noise, sample_rate, steps, cast(Unit, unit) if unit else limits.unit)
    ask = Ask(task, proxy, spend, rounds, cohort)
    found = verdicts(limits, ask, datetime.now(UTC))
    refused = [verdict.rule for verdict in found if not verdict.allowed]
    session.emit({"allowed": not refused, "verdicts": found}, _judged)
    if refused:
        sys.stderr.write(f"error: refused by {', '.join(refused)}\n")
        raise typer.Exit(PolicyRefusedError.exit_status)


def _judged(found: dict[str, Any]) -> Table:
    table = Table("rule", "", "why")
    for verdict in found["verdicts"]:
        table.add_row(verdict.rule, "allowed" if verdict.allowed else "[red]refused", verdict.why)
    return table
