"""`promptferry-client ledger`: shows and verifies what was spent."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from transfer.terminal import console
from transfer.terminal.session import of

if TYPE_CHECKING:  # importing them takes seconds
    from client.ledger.entries import Entry
    from transfer.privacy import Spend

app = console.application("The privacy ledger: every spend, recorded before it is made.")

Noise = Annotated[float, typer.Option(help="Noise multiplier σ; 0 for no privacy.")]
Rate = Annotated[float, typer.Option(help="Probability that a unit takes part in a step.")]
Steps = Annotated[int, typer.Option(help="Noisy steps per round.")]


@app.command("show")
def show(context: typer.Context) -> None:
    """Show ε of each data set so far, every entry, and every declined round with its reason."""
    from client.home import custody
    from client.home import settings as config
    from client.ledger.ledger import Ledger

    session = of(context)
    settings = config.read(session.directory)
    budget = settings.limits().budget
    with console.doing("computing ε"), Ledger.open(custody.load(settings).ledger) as ledger:
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
    names = [name for entry in ledger["entries"] for name in (entry.data_set, entry.subject) if name]
    about = Column("data set, round", overflow="fold", min_width=min(40, max(map(len, names), default=0)))
    entries = Table("entry", "time, UTC", "kind", about, "cost")
    for entry in ledger["entries"]:
        named = "\n".join(filter(None, (entry.data_set, entry.subject)))
        entries.add_row(str(entry.number), _minute(entry), entry.kind.value, named, _cost(entry.spend))
    declines = Table("entry", "time, UTC", Column("declined", overflow="fold"), "refusal", "reason")
    for entry in ledger["declines"]:
        declined = entry.declined
        reason = Text(declined.why)  # may quote a server: no markup
        declines.add_row(str(entry.number), _minute(entry), declined.round_name, declined.refusal, reason)
    return Group(sets, entries, declines) if ledger["declines"] else Group(sets, entries)


def _minute(entry: "Entry") -> str:
    return entry.time[:16].replace("T", " ")


def _cost(spend: "Spend | None") -> str:
    if spend is None:
        return ""
    noise, rate = f"noise {spend.noise_multiplier:g}", f"rate {spend.sample_rate:g}"
    return f"{spend.steps} steps, {noise}, {rate}, for one {spend.unit}"


@app.command("verify")
def verify(context: typer.Context) -> None:
    """Verify every entry of the ledger against the chain and the head file."""
    from client.home import custody
    from client.home import settings as config
    from client.ledger.ledger import Ledger

    session = of(context)
    with Ledger.open(custody.load(config.read(session.directory)).ledger) as ledger:
        number, digest = ledger.head()
    session.emit(
        {"entries": number, "head": digest}, lambda head: f"{head['entries']} entries hold; head {digest}"
    )


@app.command("declare-loss")
def declare_loss(context: typer.Context, noise: Noise, sample_rate: Rate, steps: Steps) -> None:
    """Continue with a ledger whose newest entries are lost, charging an assumed spend for them."""
    from client.home import custody
    from client.home import settings as config
    from client.home.lock import locked
    from client.ledger.ledger import Ledger
    from transfer.privacy import Spend

    session = of(context)
    settings = config.read(session.directory)
    assumed = Spend(noise, sample_rate, steps, settings.data.unit)
    with locked(settings.lock_file), Ledger.declare_loss(custody.load(settings).ledger, assumed) as ledger:
        charged = ledger.data_sets()
    session.emit(
        {"charged": charged}, lambda report: f"charged {', '.join(report['charged']) or 'no data set'}"
    )
