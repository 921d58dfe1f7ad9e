"""The table of architectures, written by the test run that measured them: `pytest tests/families --families FILE.md`.

A test hands its row over with `record_property(FAMILY, row)`, also from another process.
"""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from transfer.files.atomic import replace

FAMILY = "family"
"""Name of the property that holds a row: `kind`, `class`, and an outcome for every property."""

TOLD = ("kind", "class")
HEADER = """# Which architectures are served, and how each was tried

Written by `make families`, never by hand: every causal and masked architecture in the auto mappings of
transformers, with tiny random weights. Every property is measured against stock transformers and PEFT, which run the
same files one row at a time.

{meanings}

*ok*: it holds. *plain*: it holds, and the model's own forward pass is used where a shorter one would be wrong. *no*:
refused in one line, which the last column has. *–*: not tried, as the model is refused as a whole. Run with
{versions}.

{summary}

"""

Row = Mapping[str, str]


class FamilyTable:
    """Collects the rows of a run in the process that reports, and writes them when it is over."""

    def __init__(self, file: Path, meanings: Mapping[str, str]) -> None:
        self._file, self._meanings = file, meanings
        self._rows: dict[str, Row] = {}
        self._failed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        self._failed += report.failed
        for name, row in report.user_properties:
            if name == FAMILY and isinstance(row, dict):
                self._rows[report.nodeid] = row

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._rows:
            replace(self._file, table(list(self._rows.values()), self._meanings).encode(), 0o644)


def table(rows: list[Row], meanings: Mapping[str, str]) -> str:
    """The whole file, in GitHub's Markdown."""
    rows = sorted(rows, key=lambda row: row["kind"].casefold())
    names = list(meanings)
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "peft")]
    served = sum(row["loads"].startswith("ok") for row in rows)
    told = "\n".join(f"* *{name}*: {meaning}." for name, meaning in meanings.items())
    head = HEADER.format(
        meanings=told,
        versions=", ".join([f"Python {platform.python_version()}", *versions]),
        summary=f"{len(rows)} kinds, of which {served} are served and {len(rows) - served} refused.",
    )
    columns = ["architecture", "class", *names, "refused: why"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [
        _line([row["kind"], f"`{row['class']}`", *(_cell(row[n]) for n in names), _why(row, names)])
        for row in rows
    ]
    return head + "".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _cell(outcome: str) -> str:
    """What a cell says of an outcome; a failure is told in full."""
    if outcome.startswith("refused"):
        return "no"
    return "plain" if outcome.startswith("ok by the plain path") else outcome.removeprefix("ok ") or "ok"


def _why(row: Row, names: list[str]) -> str:
    """Every reason once, with the properties that it refuses."""
    reasons: dict[str, list[str]] = {}
    for name in names:
        kind, _, reason = row[name].partition(": ")
        if kind == "refused":
            reasons.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(which)}: {reason}" for reason, which in reasons.items())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--families", type=Path, metavar="FILE.md", help="write what holds of each architecture")


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("families")
    if file is not None and not hasattr(config, "workerinput"):
        from tests.families.properties import (
            MEANINGS,
        )  # loads torch, which most runs need later or not at all

        config.pluginmanager.register(FamilyTable(file, MEANINGS), "family-table")
