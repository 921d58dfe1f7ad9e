"""The `promptferry-client` command: a data owner joins, runs the daemon and sees what was spent.

Each command imports what it needs of PyTorch itself, so help and usage errors appear without that wait.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from client.commands import audit as cli_audit
from client.commands import encrypt as cli_vault
from client.commands import ledger as cli_ledger
from client.commands import plan as cli_policy
from client.commands import proxy as cli_proxy
from transfer import hints
from transfer.errors import DataError, UsageError
from transfer.terminal import console
from transfer.terminal.console import DirectoryOption, Format, FormatOption
from transfer.terminal.doctor import report
from transfer.terminal.session import Session, of

app = console.application("Tune prompts on private text that never leaves this machine.")
data_app = console.application("Look at the private data. Nothing leaves this machine.")
app.add_typer(data_app, name="data")
app.add_typer(cli_ledger.app, name="ledger")
app.add_typer(cli_policy.app, name="policy")
app.add_typer(cli_proxy.app, name="proxy")
app.command("plan")(cli_policy.plan)
app.command("audit")(cli_audit.audit)
app.command("encrypt")(cli_vault.encrypt)


def main() -> None:
    """Entry point of `promptferry-client`."""
    console.run(app)


@app.callback()
def _options(
    context: typer.Context, directory: DirectoryOption = Path(), form: FormatOption = Format.TEXT
) -> None:
    context.obj = Session(directory, form)


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="New client directory.")],
    name: Annotated[str, typer.Option(help="Name in the invitation.")],
    data: Annotated[Path, typer.Option(help="Private text, .jsonl, .csv or .tsv with text and label.")],
    epsilon: Annotated[float, typer.Option(help="Most ε ever spent on a record or user; inf for no limit.")],
    records: Annotated[
        int | None, typer.Option(help="About how many records. Public: give a rounded figure, not the count.")
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(help="About how many users, instead, to protect each user with all of their records."),
    ] = None,
    delta: Annotated[float | None, typer.Option(help="δ of that ε.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task to allow, or '*'; repeatable.")] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="Proxy digest to allow, or '*'; repeatable.")
    ] = None,
    min_cohort: Annotated[int | None, typer.Option(help="Fewest clients in a round.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for tuning.")] = None,
    secret: Annotated[
        Path | None, typer.Option(help="File with a secret, which encrypts keys and ledger.")
    ] = None,
) -> None:
    """Make a client directory: client.toml, keys and an empty privacy ledger."""
    from client.home import directory as client_directory

    if (records is None) == (users is None):
        raise UsageError("give --records N, or --users N to protect each user with all of their records")
    values = {
        ("client", "name"): name,
        ("client", "secret"): None if secret is None else str(secret.resolve()),
        ("data", "path"): str(data.resolve()),
        ("data", "declared_users"): users,
        ("policy", "max_epsilon"): epsilon,
        ("policy", "max_delta"): delta,
        ("policy", "tasks"): task,
        ("policy", "proxies"): proxy,
        ("policy", "min_cohort"): min_cohort,
        ("daemon", "threads"): threads,
    }
    given = {key: value for key, value in values.items() if value is not None}
    config = client_directory.make(directory, {**given, ("data", "declared_records"): records})
    limits = config.policy
    allowed = (
        "" if limits.tasks and limits.proxies else "; no round is allowed before you name tasks and proxies"
    )
    of(context).emit(
        {"directory": directory, "name": name, "tasks": limits.tasks, "proxies": limits.proxies},
        lambda report: (
            f"made {report['directory']}: edit {directory / 'client.toml'}, then "
            f"{hints.client('enrol INVITATION', directory)}{allowed}"
        ),
    )


@app.command()
def enrol(
    context: typer.Context,
    invitation: Annotated[Path, typer.Argument(help="Invitation file from the coordinator's operator.")],
) -> None:
    """Register with the coordinator that wrote the invitation, and trust no other from then on."""
    from client.home import enrolment
    from client.home import settings as config

    session = of(context)
    pinned = enrolment.enrol(config.read(session.directory), invitation)
    session.emit(
        {"client": pinned.client, "coordinator": pinned.coordinator, "fleet": pinned.fleet},
        lambda report: (
            f"enrolled {report['client']} at {report['coordinator']}; rounds come from {report['fleet']}"
        ),
    )


@app.command()
def run(
    context: typer.Context,
    ask: Annotated[bool, typer.Option("--ask", help="Ask before the first round of each campaign.")] = False,
) -> None:
    """Run the daemon, which answers rounds until you stop it."""
    from client.daemon import process as daemon
    from client.home import settings as config

    settings = config.read(of(context).directory)
    console.log_to_stderr(settings.daemon.log_level)
    daemon.run(settings, ask=ask)


@data_app.command("check")
def check(
    context: typer.Context,
    labels: Annotated[str, typer.Option(help="Names of the classes: a,b,c.")] = "",
    task: Annotated[Path | None, typer.Option(help="Task file that names the classes instead.")] = None,
    proxy: Annotated[
        Path | None, typer.Option(help="Proxy directory, to check the task on it and count what is cut.")
    ] = None,
) -> None:
    """Report every fault of the file; count labels, users if they are the unit, and what a task would cut."""
    if (task is None) == (not labels):
        raise UsageError("name the classes with --labels a,b,c or with --task TASK.toml")
    if proxy is not None and task is None:
        raise UsageError("--proxy needs --task: the label words are in the task file")
    from client.home import settings as config
    from transfer.families.model_directory import directory_of
    from transfer.tasks import Task

    session = of(context)
    settings = config.read(session.directory)
    settings.data.require_readable()
    wanted = None if task is None else Task.from_toml(task)
    if proxy is not None:
        directory_of(proxy)
    with console.doing(f"reading {settings.data.path}"):
        from client.commands import data_check

        names = wanted.label_names if wanted else tuple(name.strip() for name in labels.split(","))
        report = data_check.check(settings.data, names, wanted, proxy)
    session.emit(report, lambda result: data_check.shown(result, settings.data.path, wanted))
    more = [f"and {report.more_faults} more faults"] if report.more_faults else []
    for fault in [*report.faults, *more]:
        sys.stderr.write(f"error: {fault}\n")
    if report.faults:
        raise typer.Exit(DataError.exit_status)


@app.command()
def doctor(context: typer.Context) -> None:
    """Check settings, keys, data, ledger and the connection to the coordinator."""
    session = of(context)
    with console.doing("reading the settings"):
        from client.commands import doctor as checkup
    report(session, checkup.examine(session.directory))
