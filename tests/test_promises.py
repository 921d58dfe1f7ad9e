"""The table of promises is written by a run that tried them all, and says what the run saw."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROMISES = """
[[promise]]
key = "small"
number = 1
says = "It is small"
target = "≤ 2"

[[promise]]
key = "fast"
number = 7
says = "It is fast"
target = "≤ 1 s"
"""
TESTS = """
import pytest

@pytest.mark.promise("small")
@pytest.mark.parametrize("size", [1.25, 0.5])
def test_size(size, measured):
    measured(size=size, count=20_000)
    assert size < LIMIT

@pytest.mark.promise("small", "fast")
def test_both():
    pass

@pytest.mark.promise("small")
def test_that_does_not_run():
    pytest.skip()

def test_of_nothing():
    pass
"""
ROWS = """\
| 1 | It is small | ≤ 2 | –<br>size 0.5 – 1.25 (2), count 20,000 (2) \
| passed `test_it.py::test_both`<br>{} `test_it.py::test_size` × 2 |
| 7 | It is fast | ≤ 1 s | – | passed `test_it.py::test_both` |
"""


def run(directory: Path, tests: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own over a project of one file of tests and two promises."""
    settings = '[tool.pytest.ini_options]\npromises = "list.toml"\nmarkers = ["promise(key): shows"]\n'
    (directory / "pyproject.toml").write_text(settings)
    (directory / "list.toml").write_text(PROMISES)
    (directory / "conftest.py").write_text('pytest_plugins = ["tests.promises"]\n')
    (directory / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "--promises=out.md", *words]
    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("processes", ["0", "2"])
def test_figures_and_outcomes_arrive_in_the_table_from_any_process(tmp_path: Path, processes: str) -> None:
    done = run(tmp_path, TESTS.replace("LIMIT", "2"), "-n", processes)
    assert done.returncode == 0, done.stdout
    table = (tmp_path / "out.md").read_text()
    assert table.endswith(ROWS.format("passed"))
    assert str(tmp_path) not in table


def test_a_failed_test_shows_as_failed(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS.replace("LIMIT", "1"))
    assert done.returncode == 1
    assert (tmp_path / "out.md").read_text().endswith(ROWS.format("**failed**"))


def test_a_promise_without_a_test_fails_the_run_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "out.md").write_text("old")
    done = run(tmp_path, TESTS.replace("LIMIT", "2"), "-k", "size or not_run")
    assert done.returncode == 1
    assert "out.md is not written: no test ran that shows 'fast'\n" in done.stdout
    assert (tmp_path / "out.md").read_text() == "old"


def test_a_run_that_was_broken_off_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS + "\n\ndef test_last():\n    raise KeyboardInterrupt")
    assert done.returncode == 2
    assert "out.md is not written: the run was broken off\n" in done.stdout
    assert not (tmp_path / "out.md").exists()


def test_a_promise_nobody_made_fails_collection(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS.replace('("small")', '("smal")', 1), "-n", "1")
    assert done.returncode != 0
    assert "test_it.py::test_size[0.5]: promise 'smal' is none of small, fast\n" in done.stdout
    assert not (tmp_path / "out.md").exists()


def marks_all(module: ast.Module) -> bool:
    """Whether the file says of all its tests at once what they show."""
    told = (ast.unparse(item) for item in module.body if isinstance(item, ast.Assign))
    return any(item.startswith("pytestmark = pytest.mark.promise(") for item in told)


def shown(function: ast.FunctionDef, module: ast.Module) -> bool:
    if function.name.startswith("test_") and marks_all(module):
        return True
    return any(ast.unparse(mark).startswith("pytest.mark.promise(") for mark in function.decorator_list)


def test_the_committed_table_names_every_test_that_shows_a_promise_and_no_other() -> None:
    marked = {
        f"{path.relative_to(HERE.parent)}::{function.name}"
        for path in HERE.rglob("test_*.py")
        for module in [ast.parse(path.read_text(encoding="utf-8"))]
        for function in module.body
        if isinstance(function, ast.FunctionDef) and shown(function, module)
    }
    table = (HERE / "PRIVACY.md").read_text(encoding="utf-8")
    assert set(re.findall(r"passed `([^`]+)`", table)) == marked, "run `make privacy`"
