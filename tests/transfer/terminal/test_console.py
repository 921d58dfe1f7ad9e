import json
import subprocess
import sys

import pytest

from tests.transfer.terminal.terminals import failing, status_of
from transfer.errors import (
    BudgetRefusedError,
    PolicyRefusedError,
    PromptferryError,
    UsageError,
    VerificationError,
)
from transfer.terminal import console


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


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    script = (
        "from transfer.terminal import console; app = console.application('x')\n"
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
