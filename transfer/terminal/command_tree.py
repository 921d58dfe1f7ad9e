"""The tree of click commands of a typer application, with what typer lacks: --version, exact help, usage errors."""

import inspect
from collections.abc import Iterator
from typing import Annotated, get_args, get_origin, get_type_hints

import click
import typer
from rich.markup import escape
from typer.core import TyperGroup


class MissingVerbError(click.UsageError):
    """A command or noun stands without the verb it needs."""

    def __init__(self, context: click.Context) -> None:
        super().__init__(f"{context.command_path} needs a command; see `{context.command_path} -h`", context)
        self._context = context

    def show_help(self) -> None:
        """Print the command's help to stdout."""
        self._context.get_help()  # typer prints the help and returns an empty text


class Noun(TyperGroup):
    """A command that needs a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind the command.

        Raises:
            MissingVerbError: there are none.
        """
        if not args and not ctx.resilient_parsing:
            raise MissingVerbError(ctx)
        return super().parse_args(ctx, args)


def command_of(app: typer.Typer) -> click.Command:
    """Return the command of `app`, with --version, and with help texts that rich prints literally."""
    command = typer.main.get_command(app)
    for each in _all(command):
        each.help = escape(each.help or "")
        helps = _argument_helps(each)
        for parameter in each.params:
            parameter.help = escape(getattr(parameter, "help", None) or helps.get(parameter.name or "", ""))
    click.version_option(package_name="promptferry", message="%(prog)s %(version)s")(command)
    return command


def _all(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from _all(each)


def _argument_helps(command: click.Command) -> dict[str, str]:
    """Return the help of each positional argument, which typer 0.20 loses under click 8.5."""
    function = inspect.unwrap(command.callback) if command.callback else None
    hints = get_type_hints(function, include_extras=True) if function else {}
    return {
        name: argument.help or ""
        for name, hint in hints.items()
        if get_origin(hint) is Annotated
        for argument in get_args(hint)[1:]
        if isinstance(argument, typer.models.ArgumentInfo)
    }
