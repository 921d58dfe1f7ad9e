"""The frame of both `doctor` commands: checks one after another, and a table of their results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from transfer.errors import PromptferryError
from transfer.progress import doing
from transfer.terminal.session import Session

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check; `detail` is the state of a healthy part, or the fault and how to repair it."""

    check: str
    healthy: bool
    detail: str


def examine(
    path: Path, read: Callable[[], Config], checks: Mapping[str, Callable[[Config], str]]
) -> list[Check]:
    """Read the settings in `path` and run every check on them.

    A failed check does not stop the next. If the settings cannot be read, no check runs.
    """
    try:
        settings = read()
    except PromptferryError as error:
        return [Check("settings", False, str(error))]
    findings = [Check("settings", True, str(path))]
    for name, check in checks.items():
        try:
            with doing(f"checking {name}"):
                findings.append(Check(name, True, check(settings)))
        except PromptferryError as error:
            findings.append(Check(name, False, str(error)))
    return findings


def report(session: Session, findings: list[Check]) -> None:
    """Write the findings to stdout; end with status 1 if a check failed."""
    session.emit(findings, _table)
    if not all(finding.healthy for finding in findings):
        raise typer.Exit(PromptferryError.exit_status)


def _table(findings: list[Check]) -> Table:
    table = Table("check", "", "found")
    for finding in findings:
        table.add_row(finding.check, "ok" if finding.healthy else "[red]failed", escape(finding.detail))
    return table
