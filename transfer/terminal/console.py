"""What the three commands share: results on stdout, everything else on stderr, one line an error.

app = console.application("What this command is for.")

def main() -> None:
    console.run(app)
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import click
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from transfer.errors import PromptferryError
from transfer.progress import doing, log_to_stderr, progress, say
from transfer.terminal import command_tree
from transfer.terminal.json_values import plain

__all__ = [
    "INTERRUPTED",
    "DirectoryOption",
    "Format",
    "FormatOption",
    "application",
    "doing",
    "emit",
    "line",
    "log_to_stderr",
    "progress",
    "run",
    "say",
    "wants_json",
]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
Value = TypeVar("Value")


class Format(StrEnum):
    """How a result is written to stdout."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="How results are written; may also stand last.")
]
DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--dir",
        help="Directory that holds the settings file; may also stand last.",
        show_default="current directory",
    ),
]


def application(description: str) -> typer.Typer:
    """A typer application, or a noun of one; called with nothing it prints its help and ends with status 2."""
    return typer.Typer(
        cls=command_tree.Noun,
        help=description,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        suggest_commands=False,  # click says "Did you mean" already
    )


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit status (the table is in `transfer.errors`).

    A `PromptferryError` becomes `error: …` on stderr and, if `--format json` was given, also
    `{"error": symbol, "message": …}` on stdout.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _hush()
    try:
        # not app(): typer's own hook prints the local variables of every frame, which may hold private text
        command = command_tree.made(app)
        result = command.main(args=_hoisted(given, command), standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # typer's word for Ctrl-C
            _fail("interrupted", "interrupted", INTERRUPTED, given)
        sys.exit(result if isinstance(result, int) else 0)
    except PromptferryError as error:
        _fail(error.symbol, str(error), error.exit_status, given)
    except command_tree.MissingVerbError as error:
        with redirect_stdout(sys.stderr):  # the help that was not asked for is no result
            error.show_help()
        _fail("usage", error.format_message(), error.exit_code, given, told=True)
    except click.ClickException as error:
        _fail("usage", " ".join(error.format_message().split()), error.exit_code, given)
    except (KeyboardInterrupt, click.Abort):  # before typer listens, or where a question was asked
        _fail("interrupted", "interrupted", INTERRUPTED, given)
    except BrokenPipeError:
        # whoever read our output has left; closing stdout at exit would fail the same way again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _hush() -> None:
    """The model libraries draw no bars, give no advice and call nobody: a command tells of its work itself."""
    for setting in ("PROGRESS_BARS", "TELEMETRY", "UPDATE_CHECK"):
        os.environ[f"HF_HUB_DISABLE_{setting}"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if (loaded := sys.modules.get("transformers.utils.logging")) is not None:
        loaded.disable_progress_bar()


def _hoisted(words: Sequence[str], command: click.Command) -> list[str]:
    """`words` with options of the whole command moved before its verb, so that they may stand at the end too."""
    known = {name for parameter in command.params for name in parameter.opts}
    options = known & {"--dir", "--format"} if isinstance(command, click.Group) else set()
    front: list[str] = []
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        if word == "--":
            rest += [word, *queue]
        elif word in options:
            front += [word, _value(word, queue)]
        else:
            (front if word.startswith(tuple(f"{option}=" for option in options)) else rest).append(word)
    return front + rest


def _value(option: str, following: Iterator[str]) -> str:
    value = next(following, None)
    if value is None:
        raise click.BadOptionUsage(option, f"Option {option!r} requires an argument.")
    return value


def _fail(
    symbol: str, message: str, status: int, arguments: Sequence[str], *, told: bool = False
) -> NoReturn:
    """End with an error; `told` if whoever reads stderr knows it already."""
    if wants_json(arguments):
        sys.stdout.write(json.dumps({"error": symbol, "message": message}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if not told:
        sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


def wants_json(arguments: Sequence[str]) -> bool:
    """True if the last `--format` says json; read off the words, so wrong usage is told in JSON too."""
    chosen = ""
    for word, following in pairwise([*arguments, ""]):
        if word == "--format":
            chosen = following
        elif word.startswith("--format="):
            chosen = word.partition("=")[2]
    return chosen == Format.JSON


def emit(value: Value, form: Format, render: Callable[[Value], RenderableType]) -> None:
    """Write a result to stdout: as one JSON document, or as `render(value)` (text, or any rich table)."""
    if form is Format.JSON:
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")
        return
    shown = render(value)
    if isinstance(shown, str):
        sys.stdout.write(shown + "\n")
    else:
        Console(file=sys.stdout).print(shown, crop=False)


def line(text: str) -> Text:
    """One line that no terminal width breaks; a table's own title would wrap in the table's width."""
    return Text(text, no_wrap=True, overflow="ignore")
