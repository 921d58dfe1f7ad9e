"""`promptferry-coordinator round launch | list | show | watch | resume | abort`: campaigns of rounds."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.commands.session import Session, of
from transfer import hints
from transfer.errors import UsageError
from transfer.files import toml as settings
from transfer.placement.settings import makeable
from transfer.terminal import console
from transfer.terminal.console import line
from transfer.terminal.json_values import plain

if TYPE_CHECKING:
    from coordinator.campaigns.watch import CampaignView
    from coordinator.rounds.plan import CampaignPlan
    from coordinator.store.records import Campaign
    from coordinator.store.store import Store

app = console.application("Campaigns: rounds of tuning that end in a published prompt.")
NameArgument = Annotated[str, typer.Argument(help="Name of the campaign.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the campaign to its end.")]
TimeoutOption = Annotated[float | None, typer.Option("--timeout-s", min=0, help="Longest wait in seconds.")]


@app.command("launch")
def launch(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(help="Round plan, TOML.")],
    wait: WaitOption = False,
    timeout_s: TimeoutOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the plan and tell what it needs; launch nothing.")
    ] = False,
) -> None:
    """Queue a campaign; the serving coordinator runs it."""
    session = of(context)
    if dry_run and (wait or timeout_s is not None):
        raise UsageError("--dry-run launches nothing to --wait for; leave one of them out")
    settings.tables(plan, "plan")  # before the slow import of PyTorch
    with session.store() as store:
        with console.doing(f"reading {plan} and calibrating its noise"):
            from coordinator.rounds import plan_file

            read = plan_file.read(plan, lambda draft: _require_possible(store, draft))
        if dry_run:
            _tell(session, store, read)
            return
        store.add_campaign(read.name, read.to_json())
        if wait:
            _follow(session, store, read.name, timeout_s)
        else:
            session.emit(_planned(read), _priced)
            _warn_if_unserved(store)


def _require_possible(store: "Store", plan: "CampaignPlan") -> None:
    """Refuse a plan that the store or the public text rules out, before the slow calibration of its noise."""
    from transfer.files.public_text import PublicText

    makeable(plan.publish.twins)
    store.require_new_campaign(plan.name)
    store.proxy(plan.proxy)
    PublicText.of(Path(plan.public_text))


def _tell(session: Session, store: "Store", plan: "CampaignPlan") -> None:
    """Print the price of a plan, and what it needs of the coordinator and of each client."""
    with console.doing(f"sizing {plan.name}"):
        from coordinator.commands import sizing
        from transfer.terminal import needs

        values = {**_planned(plan), **sizing.of_campaign(session, store, plan)}
    session.emit(values, lambda _: Group(line(_priced(values, "would launch")), needs.table(values)))


def _planned(plan: "CampaignPlan") -> dict[str, Any]:
    spend = plan.tuning.spend
    return {
        "campaign": plan.name,
        "rounds": plan.rounds,
        "epsilon": plan.epsilon,
        "delta": plan.delta,
        "unit": spend.unit,
        "noise_multiplier": spend.noise_multiplier,
        "sample_rate": spend.sample_rate,
        "steps": spend.steps,
    }


def _priced(plan: dict[str, Any], what: str = "launched") -> str:
    return (
        f"{what} {plan['campaign']}: ε {plan['epsilon']:.4g} at δ {plan['delta']:g} for one {plan['unit']} of "
        f"each client, in {plan['rounds']} rounds of {plan['steps']} steps, noise multiplier "
        f"{plan['noise_multiplier']:.4g}"
    )


@app.command("list")
def list_(context: typer.Context) -> None:
    """List every campaign, oldest first."""
    session = of(context)
    with session.store() as store:
        campaigns = store.campaigns()
    values = [
        {"campaign": item.name, "state": item.state, "detail": item.detail, "updated": item.update_time}
        for item in campaigns
    ]
    session.emit(values, _listed)


def _listed(campaigns: list[dict[str, Any]]) -> Table:
    table = Table("campaign", "state", "updated", "detail")
    for item in campaigns:
        table.add_row(
            item["campaign"], item["state"], f"{item['updated']:%Y-%m-%d %H:%M}", Text(item["detail"])
        )
    return table


@app.command("show")
def show(context: typer.Context, name: NameArgument) -> None:
    """Show one campaign: its cost, its rounds, and the outcome of each client."""
    from coordinator.campaigns.watch import look

    session = of(context)
    with session.store() as store:
        view, text = look(store, name), store.campaign(name).plan
    with console.doing(f"reading the plan of {name}"):
        from coordinator.rounds.plan import CampaignPlan

        plan = CampaignPlan.from_json(text)
    values = {**_planned(plan), **plain(view)}
    session.emit(values, lambda _: Group(line(_priced(_planned(plan))), summary(view)))


@app.command("watch")
def watch(context: typer.Context, name: NameArgument, timeout_s: TimeoutOption = None) -> None:
    """Follow a campaign to its end."""
    session = of(context)
    with session.store() as store:
        _follow(session, store, name, timeout_s)


@app.command("resume")
def resume(
    context: typer.Context, name: NameArgument, wait: WaitOption = False, timeout_s: TimeoutOption = None
) -> None:
    """Queue a failed or aborted campaign again; it continues where it stopped.

    The open round asks again each client that declined or did not reply, and counts the releases it already has.
    """
    from coordinator.store.records import CampaignState

    session = of(context)
    with session.store() as store:
        campaign = store.set_campaign_state(name, CampaignState.PENDING, "resumed by the operator")
        if wait:
            _follow(session, store, name, timeout_s)
        else:
            _emit_state(session, campaign)
            _warn_if_unserved(store)


@app.command("abort")
def abort(context: typer.Context, name: NameArgument) -> None:
    """Stop a campaign; the privacy that clients spent stays spent."""
    from coordinator.store.records import CampaignState

    session = of(context)
    with session.store() as store:
        campaign = store.set_campaign_state(name, CampaignState.ABORTED, "aborted by the operator")
    _emit_state(session, campaign)


def _emit_state(session: Session, campaign: "Campaign") -> None:
    values = {"campaign": campaign.name, "state": campaign.state}
    session.emit(values, lambda _: f"{campaign.name} is {campaign.state}")


def _warn_if_unserved(store: "Store") -> None:
    from coordinator.campaigns.watch import served

    if not served(store):
        console.say(
            f"the campaign waits: no coordinator serves this store; start {hints.coordinator('serve')}"
        )


def _follow(session: Session, store: "Store", name: str, timeout_s: float | None) -> None:
    """Show progress on stderr and the summary on stdout."""
    from coordinator.campaigns.watch import follow, require_published

    if sys.stderr.isatty():
        with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
            view = follow(store, name, lambda seen: live.update(summary(seen)), timeout_s=timeout_s)
    else:
        view = follow(store, name, _News().report, timeout_s=timeout_s)
    require_published(view)
    session.emit(view, summary)


class _News:
    """Writes to stderr what changed since the last view."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def report(self, view: "CampaignView") -> None:
        for item in view.rounds:
            for client, outcome in item.lines:
                self._line(f"{view.name}: round {item.index}: {client}: {outcome}")
        self._line(f"{view.name}: {view.state.value}" + (f": {view.detail}" if view.detail else ""))

    def _line(self, text: str) -> None:
        if text not in self._lines:
            self._lines.add(text)
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def table(view: "CampaignView") -> Table:
    """Return a campaign as a table of rounds and clients."""
    shown = Table("round", "state", "client", "outcome")
    for item in view.rounds:
        for number, (client, outcome) in enumerate(item.lines or [("", "")]):
            first = ("", "") if number else (str(item.index), item.state)
            shown.add_row(*first, client, Text(outcome))
    return shown


def summary(view: "CampaignView") -> Group:
    """Return the campaign's name and state, the table, its detail, and the next step if it stopped."""
    from coordinator.campaigns.watch import to_resume
    from coordinator.store.records import CampaignState

    stopped = view.state in (CampaignState.FAILED, CampaignState.ABORTED)
    below = [line(view.detail), *([line(to_resume(view.name))] if stopped else [])]
    return Group(line(f"{view.name}: {view.state.value}"), table(view), *below)
