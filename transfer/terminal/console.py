"""The common part of the three commands: results on stdout, everything else on stderr, one line per error.

app = console.application("What this command is for.")

def main() -> None:
    console.run(app)
"""

import json
import logging
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
"""Exit status after Ctrl-C, as in shells."""
Value = TypeVar("Value")


class Format(StrEnum):
    """How a result is written to stdout."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="Format of results. You may also write it last.")
]
DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--dir",
        help="Directory of the settings file. You may also write it last.",
        show_default="current directory",
    ),
]


def application(description: str) -> typer.Typer:
    """Return a typer application, or a noun of one; without a verb it prints its help and ends with status 2."""
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
    words = list(sys.argv[1:] if arguments is None else arguments)
    _silence_libraries()
    try:
        # not app(): typer's own hook prints the local variables of every frame, which may hold private text
        command = command_tree.command_of(app)
        result = command.main(args=_hoisted(words, command), standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # typer returns this status after Ctrl-C
            _fail("interrupted", "interrupted", INTERRUPTED, words)
        sys.exit(result if isinstance(result, int) else 0)
    except PromptferryError as error:
        _fail(error.symbol, str(error), error.exit_status, words)
    except command_tree.MissingVerbError as error:
        with redirect_stdout(sys.stderr):  # help that nobody requested is not a result
            error.show_help()
        _fail("usage", error.format_message(), error.exit_code, words, printed=True)
    except click.ClickException as error:
        _fail("usage", " ".join(error.format_message().split()), error.exit_code, words)
    except (KeyboardInterrupt, click.Abort):  # before typer handles signals, or at a prompt for input
        _fail("interrupted", "interrupted", INTERRUPTED, words)
    except BrokenPipeError:
        # the reader of stdout has gone; closing stdout at exit would fail the same way again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _silence_libraries() -> None:
    """Keep the model libraries from drawing bars, giving advice and calling home; commands report progress."""
    for setting in ("PROGRESS_BARS", "TELEMETRY", "UPDATE_CHECK"):
        os.environ[f"HF_HUB_DISABLE_{setting}"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every kernel that it lacks
    if (loaded := sys.modules.get("transformers.utils.logging")) is not None:
        loaded.disable_progress_bar()


def _hoisted(words: Sequence[str], command: click.Command) -> list[str]:
    """Return `words` with --dir and --format moved before the verb, so that you may also write them last."""
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
    symbol: str, message: str, status: int, arguments: Sequence[str], *, printed: bool = False
) -> NoReturn:
    """End with an error; `printed` if stderr shows it already."""
    if wants_json(arguments):
        sys.stdout.write(json.dumps({"error": symbol, "message": message}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if not printed:
        sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the last `--format` is json; it reads the raw words, so that usage errors are JSON too."""
    chosen = ""
    for word, following in pairwise([*arguments, ""]):
        if word == "--format":
            chosen = following
        elif word.startswith("--format="):
            chosen = word.partition("=")[2]
    return chosen == Format.JSON


def emit(value: Value, form: Format, render: Callable[[Value], RenderableType]) -> None:
    """Write a result to stdout, as one JSON document or as `render(value)` (text or a rich table)."""
    if form is Format.JSON:
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")
        return
    shown = render(value)
    if isinstance(shown, str):
        sys.stdout.write(shown + "\n")
    else:
        Console(file=sys.stdout).print(shown, crop=False)


def line(text: str) -> Text:
    """Return one line that no terminal width breaks; a table's own title would wrap at the table's width."""
    return Text(text, no_wrap=True, overflow="ignore")
