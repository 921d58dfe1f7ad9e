"""What tests of this room share."""

from dataclasses import dataclass

import pytest
import typer

from transfer.terminal import console


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
