"""The session of a `promptferry-coordinator` command, with its settings and its store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from transfer.terminal import session

if TYPE_CHECKING:
    from coordinator.home.settings import CoordinatorConfig
    from coordinator.store.store import Store


class Session(session.Session):
    """A session in a coordinator's directory."""

    __slots__ = ()

    def config(self) -> "CoordinatorConfig":
        """Return the settings of the directory."""
        from coordinator.home.settings import read

        return read(self.directory)

    @contextmanager
    def store(self) -> Iterator["Store"]:
        """Open the store of the directory, and close it at the end."""
        from coordinator.store.store import Store

        store = Store.open(self.config().store.url)
        try:
            yield store
        finally:
            store.close()


def of(context: typer.Context) -> Session:
    """Return the session that the application's callback made."""
    current: Session = context.obj
    return current
