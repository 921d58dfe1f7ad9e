"""The session of a command: its directory, and the format of its results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import RenderableType

from transfer.terminal.console import Format, emit

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Session:
    """The options that you may write anywhere in a command.

    Attributes:
        directory: directory of the settings file.
        form: format of results, text or JSON.
    """

    directory: Path
    form: Format

    def emit(self, value: Value, render: Callable[[Value], RenderableType]) -> None:
        """Write a result to stdout."""
        emit(value, self.form, render)


def of(context: typer.Context) -> Session:
    """Return the session that the application's callback created."""
    session: Session = context.obj
    return session
