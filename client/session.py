"""The session of a `promptferry-client` command."""

import typer

from transfer.session import Session


def of(context: typer.Context) -> Session:
    """The session the application's callback made."""
    session: Session = context.obj
    return session
