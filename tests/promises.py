"""A table of what is promised, how much of it was measured and which tests show it, written by the run itself.

`@pytest.mark.promise(KEY, …)` says what a test shows, the fixture `measured` takes the figures it found, and
`--promises FILE.md` writes the table when the run is over. The promises themselves stand in a TOML file that
the setting `promises` names: `[[promise]]` with `key`, `number`, `says` and `target`, in the table's order.
"""

import platform
import tomllib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from transfer.files.atomic import replace

PROMISE, FIGURES = "promise", "figures"
"""Names of the properties by which a report tells, also from another process, what its test showed."""
HEADER = """# What is promised, and what shows it

Written by `make privacy`, never by hand: a line for each test, with its figures beside it. A figure that was measured
several times is given from its least to its greatest value, with how often. Run with {versions}.

| | promised | target | measured in this run | shown by |
|---|---|---|---|---|
"""

Figures = dict[str, list[Any]]
Measured = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: what `says` in words, and `target`, the figure that is to be reached."""

    key: str
    number: int
    says: str
    target: str


@dataclass(slots=True)
class Shown:
    """What the cases of one test function came to."""

    passed: bool = True
    cases: int = 0
    figures: Figures = field(default_factory=dict)

    def add(self, report: pytest.TestReport, figures: Mapping[str, list[Any]]) -> None:
        self.passed &= report.passed
        if report.when != "call":
            return
        self.cases += 1
        for name, values in figures.items():
            self.figures.setdefault(name, []).extend(values)

    def cells(self, test: str) -> tuple[str, str]:
        """Figures, and the test with its outcome."""
        figures = [f"{name.replace('_', ' ')} {_told(found)}" for name, found in self.figures.items()]
        cases = f" × {self.cases}" if self.cases > 1 else ""
        return ", ".join(figures) or "–", f"{'passed' if self.passed else '**failed**'} `{test}`{cases}"


class Promises:
    """The promises of a project and, in the process that reports, what the tests of a run showed of each."""

    def __init__(self, config: pytest.Config) -> None:
        self.file: Path | None = config.getoption("promises")
        said = tomllib.loads((config.rootpath / config.getini("promises")).read_text(encoding="utf-8"))
        self.packages: list[str] = said.get("packages", [])
        self.known = {row["key"]: Promise(**row) for row in said["promise"]}
        self.shown: dict[str, dict[str, Shown]] = {key: {} for key in self.known}
        self.reports = not hasattr(config, "workerinput")
        self.fault = ""
        self.figures: Figures = {}

    def measured(self, **figures: float | str) -> None:
        """Figures of the running test; one that comes again is another measurement of the same."""
        for name, value in figures.items():
            known = self.figures.setdefault(name, [])  # plain values, which can be sent to another process
            known.append(value if isinstance(value, int | str) else float(value))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        for item in report.result:
            keys = [key for marker in item.iter_markers("promise") for key in marker.args]
            item.user_properties = [(PROMISE, key) for key in keys]
            for key in set(keys) - set(self.known):
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid}: promise {key!r} is none of {', '.join(self.known)}"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self.figures = {}
        try:
            return (yield)
        finally:
            item.user_properties.append((FIGURES, self.figures))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped or (report.when != "call" and report.passed):
            return
        told: list[Any] = [value for name, value in report.user_properties if name == FIGURES]
        for name, key in report.user_properties:
            if name == PROMISE:
                test = report.nodeid.partition("[")[0]
                self.shown[str(key)].setdefault(test, Shown()).add(report, told[0] if told else {})

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.file is None or not self.reports:
            return
        missing = [key for key, tests in self.shown.items() if not tests]
        if missing or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            why = f"no test ran that shows {missing[0]!r}" if missing else "the run was broken off"
            self.fault = f"{self.file} is not written: {why}"
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED
            return
        replace(self.file, self.table().encode(), 0o644)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.fault:
            terminalreporter.write_line(self.fault, red=True)

    def table(self) -> str:
        """The whole file, in GitHub's Markdown."""
        versions = [
            f"Python {platform.python_version()}",
            *(f"{name} {version(name)}" for name in self.packages),
        ]
        rows = []
        for key, promise in self.known.items():
            cells = [shown.cells(test) for test, shown in sorted(self.shown[key].items())]
            measured, tests = ("<br>".join(column) for column in zip(*cells, strict=True))
            rows.append(f"| {promise.number} | {promise.says} | {promise.target} | {measured} | {tests} |\n")
        return HEADER.format(versions=", ".join(versions)) + "".join(rows)


def _told(found: list[Any]) -> str:
    """One figure, the range of several numbers, or each different text."""
    if any(isinstance(value, str) for value in found):
        return ", ".join(dict.fromkeys(map(str, found)))
    ends = min(found), max(found)
    least, greatest = (f"{end:.3g}" if isinstance(end, float) else f"{end:,}" for end in ends)
    several = f" ({len(found)})" if len(found) > 1 else ""
    return (least if least == greatest else f"{least} – {greatest}") + several


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--promises", type=Path, metavar="FILE.md", help="write what tests show of each promise")
    parser.addini("promises", "TOML file of the promises, beside the settings", default="tests/promises.toml")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Promises(config), "promise-table")


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    """Takes figures of the running test, by name; its scope allows for tests that hypothesis calls many times."""
    promises = pytestconfig.pluginmanager.get_plugin("promise-table")
    assert isinstance(promises, Promises)
    return promises.measured
