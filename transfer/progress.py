"""Output of a command on stderr while it works: log lines and progress."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TextIO

logger = logging.getLogger(__name__)

FIRST_AFTER_S = 1.0
"""Seconds of work before the first message."""
CLEAR_LINE = "\r\x1b[K"
OnStep = Callable[[int, int], None]
"""A function called with (steps done, total steps)."""


def counted(on_step: OnStep, steps: int) -> OnStep:
    """Return a function that counts the steps of several works as those of one, of `steps` in all."""
    done = count(1)
    return lambda _step, _steps: on_step(next(done), steps)


class _Lines(logging.StreamHandler[TextIO]):
    """Handler whose lines stay whole beside progress bars of this process and of others on the same terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # while a bar is drawn, this is rich's stream, which writes above it
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return (CLEAR_LINE if sys.stderr.isatty() else "") + super().format(record)


def log_to_stderr(level: str) -> None:
    """Send log lines of `level` and above to stderr, each with its UTC time."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = _Lines()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every plugin at every start


def say(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write((CLEAR_LINE if sys.stderr.isatty() else "") + text + "\n")
    sys.stderr.flush()


def _report(text: str) -> None:
    """Write a log line if this process writes any, else the bare text."""
    if logging.root.handlers:
        logger.info("%s", text)
    else:
        say(text)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Write `what` to stderr if the block takes longer than `FIRST_AFTER_S`."""
    late = threading.Timer(FIRST_AFTER_S, _report, [f"{what} …"])
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


@contextmanager
def progress(title: str, *, every_s: float = 5.0, bar: bool = True) -> Iterator[OnStep]:
    """Show progress: a bar if this process owns the terminal, else a log line every `every_s` seconds.

    Args:
        title: name of the work.
        every_s: seconds between two lines.
        bar: False for work that shares a terminal with others, whose bars would overwrite each other.

    Yields:
        A function to call with (steps done, total steps).
    """
    if not (bar and _in_front()):
        with doing(title):
            yield _logged(title, every_s)
        return
    from rich.console import Console  # imported for a terminal only: all other callers do without rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _in_front() -> bool:
    """Return whether stderr is a terminal and this process runs in its foreground."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:  # a terminal, but not the one that controls this process
        return True


def time_left(seconds: float, done: int, left: int) -> timedelta:
    """Return how long `left` steps take, in whole seconds, if they are as fast as `done` steps in `seconds`."""
    return timedelta(seconds=round(seconds / max(1, done) * left))


def _logged(title: str, every_s: float) -> OnStep:
    start = time.monotonic()
    due = start + every_s

    def on_step(done: int, total: int) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + every_s
            left = time_left(now - start, done, total - done)
            _report(f"{title}: step {done}/{total}, about {left} left")

    return on_step
