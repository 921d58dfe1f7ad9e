"""What every `promptferry-coordinator` command starts from: whose directory, and how results are written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import RenderableType
from rich.text import Text

from coordinator.config import CoordinatorConfig, read
from transfer.console import Format, emit

if TYPE_CHECKING:
    from coordinator.store import Store

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Session:
    """The options that stand before the command.

    Attributes:
        directory: holds coordinator.toml.
        form: text or JSON.
    """

    directory: Path
    form: Format

    def emit(self, value: Value, render: Callable[[Value], RenderableType]) -> None:
        """Write a result to stdout."""
        emit(value, self.form, render)

    def config(self) -> CoordinatorConfig:
        """The settings of the directory."""
        return read(self.directory)

    @contextmanager
    def store(self) -> Iterator["Store"]:
        """The store of the directory, open."""
        from coordinator.store import Store

        store = Store.open(self.config().store.url)
        try:
            yield store
        finally:
            store.close()


def of(context: typer.Context) -> Session:
    """The session the application's callback made."""
    session: Session = context.obj
    return session


def line(text: str) -> Text:
    """One line that no terminal width breaks."""
    return Text(text, no_wrap=True, overflow="ignore")
