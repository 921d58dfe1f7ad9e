"""The tree of commands that click runs, made of a typer application: what typer leaves open is settled here."""

import inspect
from collections.abc import Iterator
from typing import Annotated, get_args, get_origin, get_type_hints

import click
import typer
from rich.markup import escape
from typer.core import TyperGroup


class MissingVerbError(click.UsageError):
    """A command or noun was called with nothing behind it."""

    def __init__(self, context: click.Context) -> None:
        super().__init__(f"{context.command_path} needs a command; see `{context.command_path} -h`", context)
        self._context = context

    def show_help(self) -> None:
        """Print its help to stdout."""
        self._context.get_help()  # typer prints it, and returns nothing


class Noun(TyperGroup):
    """A command that needs another one behind it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind it.

        Raises:
            MissingVerbError: there are none.
        """
        if not args and not ctx.resilient_parsing:
            raise MissingVerbError(ctx)
        return super().parse_args(ctx, args)


def made(app: typer.Typer) -> click.Command:
    """The command of `app`, with --version and with every help text as it was written."""
    command = typer.main.get_command(app)
    for each in _all(command):
        each.help = escape(each.help or "")
        told = _told(each)
        for parameter in each.params:
            parameter.help = escape(getattr(parameter, "help", None) or told.get(parameter.name or "", ""))
    click.version_option(package_name="promptferry", message="%(prog)s %(version)s")(command)
    return command


def _all(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from _all(each)


def _told(command: click.Command) -> dict[str, str]:
    """Help of each positional argument, which typer 0.20 loses under click 8.5."""
    written = inspect.unwrap(command.callback) if command.callback else None
    hints = get_type_hints(written, include_extras=True) if written else {}
    return {
        name: said.help or ""
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
        for said in get_args(hint)[1:]
        if isinstance(said, typer.models.ArgumentInfo)
    }
