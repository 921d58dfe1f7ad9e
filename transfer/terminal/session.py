"""What every command starts from: whose directory, and how results are written."""

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
    """The options that may stand anywhere in a command.

    Attributes:
        directory: holds the settings.
        form: text or JSON.
    """

    directory: Path
    form: Format

    def emit(self, value: Value, render: Callable[[Value], RenderableType]) -> None:
        """Write a result to stdout."""
        emit(value, self.form, render)


def of(context: typer.Context) -> Session:
    """The session the application's callback made."""
    session: Session = context.obj
    return session
