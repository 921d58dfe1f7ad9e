"""`promptferry-client ledger`: what was spent."""

from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from client.session import of
from transfer import console

app = console.application("The privacy ledger: every spend, written down before it was made.")

Noise = Annotated[float, typer.Option(help="Noise multiplier σ; 0 for no privacy.")]
Rate = Annotated[float, typer.Option(help="Probability that a unit takes part in a step.")]
Steps = Annotated[int, typer.Option(help="Noisy steps a round.")]


@app.command("show")
def show(context: typer.Context) -> None:
    """Show ε of each data set so far, every entry, and every round that was declined and why."""
    from client import config, custody
    from client.ledger import Ledger

    session = of(context)
    settings = config.read(session.directory)
    budget = settings.limits().budget
    with Ledger.open(custody.load(settings).ledger) as ledger:
        entries, declines = ledger.entries(), ledger.declines()
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
    session.emit({"data_sets": data_sets, "entries": entries, "declines": declines}, _shown)


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
    declines = Table("entry", "time", "declined", "refusal", "reason")
    for entry in ledger["declines"]:
        said = entry.declined
        reason = Text(said.why)  # a server's words may be in it: no markup
        declines.add_row(str(entry.number), entry.time, said.round_name, said.refusal, reason)
    return Group(sets, entries, declines) if ledger["declines"] else Group(sets, entries)


@app.command("verify")
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


@app.command("declare-loss")
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
