import json
import logging
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pytest
import typer

from transfer import console
from transfer.errors import (
    BudgetRefusedError,
    PolicyRefusedError,
    PromptferryError,
    UsageError,
    VerificationError,
)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    epsilon: float


def failing(error: Exception) -> typer.Typer:
    app = console.application("A command that fails.")

    @app.command()
    def fail(form: console.FormatOption = console.Format.TEXT) -> None:
        raise error

    @app.command()
    def work(form: console.FormatOption = console.Format.TEXT) -> None:
        console.emit([Row("a", float("inf"))], form, lambda rows: f"{rows[0].name} costs ∞")

    return app


def status_of(app: typer.Typer, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        console.run(app, arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    "error",
    [
        PromptferryError("a"),
        UsageError("b"),
        PolicyRefusedError("c"),
        BudgetRefusedError("d"),
        VerificationError("e"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_its_exit_status(error: PromptferryError, capsys) -> None:
    assert status_of(failing(error), "fail") == error.exit_status
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


@pytest.mark.parametrize("words", [("--format", "json"), ("--format=json",)])
def test_in_json_the_error_also_stands_on_stdout_with_its_symbol(words: tuple[str, ...], capsys) -> None:
    assert status_of(failing(BudgetRefusedError("no ε left")), "fail", *words) == 5
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": "budget_refused", "message": "no ε left"}
    assert captured.err == "error: no ε left\n"


def test_wrong_usage_is_told_in_one_line_with_status_2(capsys) -> None:
    assert status_of(failing(UsageError("x")), "fail", "--nope", "--format", "json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] == "usage"
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_a_mistyped_command_is_told_once_what_was_meant(capsys) -> None:
    assert status_of(failing(UsageError("x")), "wrk") == 2
    assert capsys.readouterr().err.count("Did you mean 'work'?") == 1


def test_results_go_to_stdout_as_text_or_as_json(capsys) -> None:
    app = failing(UsageError("x"))
    assert status_of(app, "work") == 0
    assert capsys.readouterr().out == "a costs ∞\n"
    assert status_of(app, "work", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "epsilon": "inf"}]


def test_ctrl_c_ends_with_the_status_shells_know(capsys) -> None:
    assert status_of(failing(KeyboardInterrupt()), "fail") == 130
    assert capsys.readouterr().out == ""


def test_a_defect_is_not_dressed_up_as_a_user_error(capsys) -> None:
    with pytest.raises(ZeroDivisionError):
        console.run(failing(ZeroDivisionError("bug")), ["fail"])


def test_plain_values_are_what_json_knows() -> None:
    value = {
        "path": Path("/a"),
        "at": datetime(2030, 1, 2, tzinfo=UTC),
        "digest": b"\x01\xff",
        "epsilon": float("inf"),
        "kinds": {console.Format.TEXT},
        "rows": (Row("a", 1.0),),
        "none": None,
    }
    assert console.plain(value) == {
        "path": "/a",
        "at": "2030-01-02T00:00:00+00:00",
        "digest": "01ff",
        "epsilon": "inf",
        "kinds": ["text"],
        "rows": [{"name": "a", "epsilon": 1.0}],
        "none": None,
    }


def test_without_a_terminal_progress_is_a_log_line_now_and_then(caplog) -> None:
    caplog.set_level(logging.INFO, "transfer.progress")
    with console.progress("tuning", every_s=0.02) as on_step:
        on_step(1, 3)
        time.sleep(0.03)
        on_step(2, 3)
        on_step(3, 3)
    assert [record.getMessage() for record in caplog.records] == ["tuning: step 2/3"]


def test_log_lines_carry_the_time_and_go_to_stderr() -> None:
    script = (
        "from transfer import console; import logging; console.log_to_stderr('info'); logging.info('hello')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo"},
    )
    assert done.stdout == ""
    stamp, _, rest = done.stderr.partition(" ")
    written = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z")
    assert abs((datetime.now(UTC) - written).total_seconds()) < 600
    assert rest == "INFO root: hello\n"


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    script = (
        "from transfer import console; app = console.application('x')\n"
        "@app.command()\ndef a(): console.emit('x' * 9_000_000, console.Format.TEXT, str)\n"
        "@app.command()\ndef b(): pass\n"
        "console.run(app, ['a'])"
    )
    command = f'{sys.executable} -c "$SCRIPT" | head -c 1'
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env={"SCRIPT": script, "PATH": "/usr/bin:/bin", "PYTHONPATH": "."},
    )
    assert done.stderr == ""


@pytest.mark.parametrize(("takes_s", "said"), [(0.0, ""), (0.3, "loading a model …\n")])
def test_what_takes_long_is_said(takes_s: float, said: str) -> None:
    script = (
        "import time\nfrom transfer import console, progress\nprogress.FIRST_AFTER_S = 0.1\n"
        f"with console.doing('loading a model'): time.sleep({takes_s})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", said)


TERMINAL = """
import logging, os, sys, time
from transfer import console
os.environ["TERM"] = "xterm"
console.log_to_stderr("info")
with console.progress("tuning", every_s=0.1, bar={bar}) as show:
    for step in range(1, 4):
        time.sleep(0.15)
        show(step, 3)
    logging.info("hello")
"""


@pytest.mark.parametrize("bar", [True, False])
def test_on_a_terminal_log_lines_stay_whole_beside_bars(bar: bool) -> None:
    ours, theirs = os.openpty()
    script = TERMINAL.format(bar=bar)
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs) as started:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert started.wait() == 0
    os.close(ours)
    text = shown.decode()
    assert ("━" in text) is bar
    assert ("tuning: step 2/3" in text) is not bar
    (line,) = [line for line in re.split(r"[\r\n]+", text) if "hello" in line]
    assert re.fullmatch(r"(\x1b\[[0-9]*[A-Za-z])*[-0-9TZ:]+ INFO root: hello", line), line


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # whoever wrote has left
        return b""


def test_help_shows_brackets_as_they_are_written(capsys) -> None:
    app = console.application("All of [a-z].")

    @app.command()
    def some(name: Annotated[str, typer.Argument(help="Name, [0-9].")]) -> None:
        """Take [x]."""

    @app.command()
    def other() -> None:
        """Leave [y]."""

    assert status_of(app, "-h") == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("All of [a-z].", "Take [x].", "Leave [y]."))
    assert status_of(app, "some", "-h") == 0
    assert "Name, [0-9]." in capsys.readouterr().out
