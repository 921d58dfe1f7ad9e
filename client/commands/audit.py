"""`promptferry-client audit`: attacks this installation to test the privacy that it claims."""

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from client.audit.shadow_settings import ShadowSettings
from client.commands.audit_inputs import MembershipInputs, least_noise, require_free
from transfer.errors import PromptferryError
from transfer.progress import OnStep
from transfer.tasks import Task
from transfer.terminal import console
from transfer.terminal.json_values import plain
from transfer.terminal.session import Session, of

if TYPE_CHECKING:
    from client.audit.finding import Finding
    from client.home.settings import ClientConfig

DEFAULTS = ShadowSettings()
HARMLESS = "This cost no privacy budget, and nothing left this machine."
_LIBRARIES = ("torch", "opacus", "transformers", "numpy", "scipy")


class Audit(StrEnum):
    """The audits."""

    MECHANISM = "mechanism"
    ONE_RUN = "one-run"
    MEMBERSHIP = "membership"


Run = Callable[[OnStep], "Finding"]
_MEMBERSHIP = "Membership audit"
Only = Annotated[list[Audit] | None, typer.Option(help="Run this audit and no other; repeatable.")]
Page = Annotated[Path | None, typer.Option(help="New HTML file for results and plots.")]
Trials = Annotated[int, typer.Option(help="Mechanism audit: steps with the canary, and as many without.")]
Canaries = Annotated[int, typer.Option(help="One-run audit: records that a coin puts in or leaves out.")]
PolicyNoise = Annotated[
    bool, typer.Option("--policy-noise", help="Mechanism and one-run audit: at the policy's least noise.")
]
TaskFile = Annotated[Path | None, typer.Option("--task", help=f"{_MEMBERSHIP}: task file; starts it.")]
ProxyName = Annotated[str | None, typer.Option(help=f"{_MEMBERSHIP}: proxy, if there are several.")]
PublicText = Annotated[
    Path | None, typer.Option(help=f"{_MEMBERSHIP}: public text to find few directions in, as rounds do.")
]
Epsilon = Annotated[
    float | None, typer.Option(help=f"{_MEMBERSHIP}: ε of a shadow prompt.", show_default="the policy's")
]
Shadows = Annotated[int, typer.Option(help=f"{_MEMBERSHIP}: shadow prompts.")]
Records = Annotated[
    int, typer.Option(help=f"{_MEMBERSHIP}: records or users to test; each shadow trains on half of them.")
]
Length = Annotated[int, typer.Option(help=f"{_MEMBERSHIP}: prompt tokens.")]
Steps = Annotated[int, typer.Option(help=f"{_MEMBERSHIP}: noisy steps.")]
Rate = Annotated[float, typer.Option(help=f"{_MEMBERSHIP}: probability that a record is in a step.")]
Clip = Annotated[float, typer.Option(help=f"{_MEMBERSHIP}: largest norm of a record's gradient.")]
StepSize = Annotated[
    float | None,
    typer.Option(help=f"{_MEMBERSHIP}: first step size.", show_default="0.05 in few directions, else 0.02"),
]
Dimensions = Annotated[int, typer.Option(help=f"{_MEMBERSHIP}: directions, with --public-text.")]


def audit(
    context: typer.Context,
    only: Only = None,
    page: Page = None,
    trials: Trials = 20_000,
    canaries: Canaries = 1_000,
    policy_noise: PolicyNoise = False,
    task: TaskFile = None,
    proxy: ProxyName = None,
    public_text: PublicText = None,
    epsilon: Epsilon = None,
    shadows: Shadows = DEFAULTS.shadows,
    records: Records = DEFAULTS.records,
    length: Length = DEFAULTS.length,
    steps: Steps = DEFAULTS.steps,
    sample_rate: Rate = DEFAULTS.sample_rate,
    clip_norm: Clip = DEFAULTS.clip_norm,
    learning_rate: StepSize = DEFAULTS.learning_rate,
    dimensions: Dimensions = DEFAULTS.dimensions,
) -> None:
    """Attack this installation on this machine, and compare the result with the privacy that is claimed.

    The mechanism audit tests one noised step. The one-run audit tests rounds that the daemon's own code answers over
    made-up records. The membership audit tests what prompts tuned on your records reveal about them.
    """
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    wanted = list(
        dict.fromkeys(only or [Audit.MECHANISM, Audit.ONE_RUN, *([Audit.MEMBERSHIP] if task else [])])
    )
    noise = least_noise(settings) if policy_noise else None
    about = {"client": settings.client.name, "campaigns": _campaigns(settings)}
    setup = ShadowSettings(shadows, records, length, steps, sample_rate, clip_norm, learning_rate, dimensions)
    require_free(page)
    task_read = None if task is None else Task.from_toml(task)
    runs: dict[Audit, Callable[[], Run]] = {
        Audit.MECHANISM: lambda: _mechanism(trials, noise),
        Audit.ONE_RUN: lambda: _one_run(canaries, noise),
    }
    if Audit.MEMBERSHIP in wanted:
        given = MembershipInputs.read(settings, task_read, proxy, public_text, epsilon)
        runs[Audit.MEMBERSHIP] = lambda: _membership(settings, given, setup)
    with console.doing("loading PyTorch"):
        _prepare(settings)
    with console.doing("reading models and data"):
        ready = [(each, runs[each]()) for each in wanted]  # faults are reported before the first audit
    findings = []
    for each, run in ready:
        with console.progress(f"{each} audit") as show:
            findings.append(run(show))
    _emit(session, {**about, **_report(findings)}, page)
    if failed := [finding.audit for finding in findings if not finding.passed]:
        sys.stderr.write(f"error: failed: {', '.join(failed)}\n")
        raise typer.Exit(PromptferryError.exit_status)


def _mechanism(trials: int, noise: float | None) -> Run:
    from client.audit import mechanism as mechanism_audit

    chosen = mechanism_audit.NOISE if noise is None else noise
    mechanism_audit.require(trials)
    return lambda show: mechanism_audit.audit(chosen, trials, on_step=show)


def _one_run(canaries: int, noise: float | None) -> Run:
    from client.audit import one_run as one_run_audit

    chosen = one_run_audit.NOISE if noise is None else noise
    one_run_audit.require(canaries)
    return lambda show: one_run_audit.audit(chosen, canaries=canaries, on_step=show)


def _membership(settings: "ClientConfig", given: MembershipInputs, setup: ShadowSettings) -> Run:
    from client.audit import membership as membership_audit
    from transfer.models.loading import load

    unit = settings.data.unit
    records = membership_audit.sample(settings.data.path, given.task, setup.records, unit)
    model = load(given.proxy, placement=settings.placement)
    plan = membership_audit.Shadowing.of(model, given.task, setup, given.budget, given.texts, unit)
    return lambda show: membership_audit.audit(plan, records, on_step=show)


def _prepare(settings: "ClientConfig") -> None:
    """Set threads as the daemon does; leave nothing on stderr but this command's progress."""
    import torch
    from transformers.utils import logging as transformers_logging

    console.log_to_stderr("info")
    # the audit expects the round beyond the budget to be refused: no warning
    logging.getLogger("client.rounds").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if settings.daemon.threads:
        torch.set_num_threads(settings.daemon.threads)


def _campaigns(settings: "ClientConfig") -> list[str]:
    """Return the campaigns that used the data, according to the ledger."""
    from client.home import custody
    from client.ledger.ledger import Ledger

    with Ledger.open(custody.load(settings).ledger) as ledger:
        rounds = [entry.subject.split("/") for entry in ledger.entries() if entry.spend is not None]
    return sorted({parts[1] for parts in rounds if len(parts) == 4})


def _report(findings: Sequence["Finding"]) -> dict[str, Any]:
    return {
        "passed": all(finding.passed for finding in findings),
        "note": HARMLESS,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("promptferry", *_LIBRARIES)},
        "findings": [{**plain(finding), "passed": finding.passed} for finding in findings],
    }


def _emit(session: Session, report: dict[str, Any], page: Path | None) -> None:
    if page is not None:
        from client.audit import page as audit_page
        from transfer.files.atomic import write_new

        write_new(page, audit_page.html(report).encode())
    session.emit(report, _shown)


def _shown(report: dict[str, Any]) -> Group:
    table = Table("audit", "", "claimed ε", "measured ε ≥", "at δ", "time")
    for each in report["findings"]:
        row = f"{float(each['claimed']):.3g}", f"{float(each['bound']):.3g}", f"{each['delta']:g}"
        passed = "pass" if each["passed"] else "[red]FAIL"
        table.add_row(each["audit"], passed, *row, f"{each['seconds']:.0f} s")
    verdicts = (f"{each['audit']}: {each['verdict']}" for each in report["findings"])
    return Group(table, *verdicts, report["note"])
