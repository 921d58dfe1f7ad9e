"""What the three commands share: results on stdout, everything else on stderr, one line an error.

app = console.application("What this command is for.")

def main() -> None:
    console.run(app)
"""

import dataclasses
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import click
import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transfer.errors import PromptferryError

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
Value = TypeVar("Value")
OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Format(StrEnum):
    """How a result is written to stdout."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How results are written: text or json.")]
DirectoryOption = Annotated[
    Path,
    typer.Option("--dir", help="Directory that holds the settings file.", show_default="current directory"),
]


def application(description: str) -> typer.Typer:
    """A typer application, or a noun of one, that prints its help when called with nothing."""
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        suggest_commands=False,  # click says "Did you mean" already
    )


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit status (the table is in `transfer.errors`).

    A `PromptferryError` becomes `error: …` on stderr and, if `--format json` was given, also
    `{"error": symbol, "message": …}` on stdout.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if app.registered_callback:
        given = _hoisted(given, ("--dir", "--format"))
    try:
        # not app(): typer's own hook prints the local variables of every frame, which may hold private text
        result = typer.main.get_command(app).main(args=given, standalone_mode=False)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except PromptferryError as error:
        _fail(error.symbol, str(error), error.exit_status, given)
    except click.ClickException as error:
        _fail("usage", error.format_message(), error.exit_code, given)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", "interrupted", INTERRUPTED, given)
    except BrokenPipeError:
        # whoever read our output has left; closing stdout at exit would fail the same way again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _hoisted(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """`words` with options of the whole command moved before its verb, so that they may stand at the end too."""
    front: list[str] = []
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        if word == "--":
            rest += [word, *queue]
        elif word in options:
            front += [word, *([value] if (value := next(queue, None)) is not None else [])]
        else:
            (front if word.startswith(tuple(f"{option}=" for option in options)) else rest).append(word)
    return front + rest


def _fail(symbol: str, message: str, status: int, arguments: Sequence[str]) -> NoReturn:
    if wants_json(arguments):
        sys.stdout.write(json.dumps({"error": symbol, "message": message}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    sys.exit(status)


def wants_json(arguments: Sequence[str]) -> bool:
    """True if the last `--format` says json; read off the words, so wrong usage is told in JSON too."""
    chosen = ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
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
        Console(file=sys.stdout).print(shown)


def plain(value: Any) -> Any:
    """`value` as what JSON knows: dataclasses as objects, paths and times as text, ε = ∞ as "inf"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def log_to_stderr(level: str) -> None:
    """Send log lines of `level` and above to stderr, each with its UTC time."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@contextmanager
def progress(title: str, *, every_s: float = 5.0) -> Iterator[OnStep]:
    """Progress of one piece of work: a bar if stderr is a terminal, else a log line every `every_s` seconds.

    Yields:
        A function to call with (steps done, steps in all).
    """
    if not sys.stderr.isatty():
        yield _logged(title, every_s)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _logged(title: str, every_s: float) -> OnStep:
    due = time.monotonic() + every_s

    def on_step(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + every_s
            logger.info("%s: step %d/%d", title, done, total)

    return on_step
