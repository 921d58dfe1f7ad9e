"""Wrong and mistyped commands, and help, as somebody meets them."""

import json
from typing import Annotated

import typer

from tests.transfer.terminal.terminals import failing, status_of
from transfer.errors import (
    UsageError,
)
from transfer.terminal import console


def test_wrong_usage_is_told_in_one_line_with_status_2(capsys) -> None:
    assert status_of(failing(UsageError("x")), "fail", "--nope", "--format", "json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] == "usage"
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_a_mistyped_command_is_told_once_what_was_meant(capsys) -> None:
    assert status_of(failing(UsageError("x")), "wrk") == 2
    assert capsys.readouterr().err.count("Did you mean 'work'?") == 1


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
