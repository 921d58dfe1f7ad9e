"""What a command says on stderr while it works: log lines, and how far it is."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger(__name__)

FIRST_AFTER_S = 1.0
"""Nobody is left longer than that without a word."""
CLEAR_LINE = "\r\x1b[K"
OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class _Lines(logging.StreamHandler[TextIO]):
    """Log lines that stay whole beside bars: those of this process, and of others on the same terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # while a bar is drawn, rich's stand-in, which writes above it
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
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin at every start


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write((CLEAR_LINE if sys.stderr.isatty() else "") + text + "\n")
    sys.stderr.flush()


def _tell(text: str) -> None:
    """A log line where this process writes some, else the bare words."""
    if logging.root.handlers:
        logger.info("%s", text)
    else:
        say(text)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say on stderr what is being done, if it is not done within a moment."""
    late = threading.Timer(FIRST_AFTER_S, _tell, [f"{what} …"])
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


@contextmanager
def progress(title: str, *, every_s: float = 5.0, bar: bool = True) -> Iterator[OnStep]:
    """Progress of one piece of work: a bar on a terminal of our own, else a log line every `every_s` seconds.

    Args:
        title: what is being done.
        every_s: seconds between two lines.
        bar: False for what runs beside others on one terminal, whose bars would overwrite each other.

    Yields:
        A function to call with (steps done, steps in all).
    """
    if not (bar and _in_front()):
        with doing(title):
            yield _logged(title, every_s)
        return
    from rich.console import Console  # drawn on a terminal alone: what only reports its steps does without
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _in_front() -> bool:
    """Whether stderr is a terminal and this process is not in its background."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:  # a terminal, but not the one that controls this process
        return True


def _logged(title: str, every_s: float) -> OnStep:
    due = time.monotonic() + every_s

    def on_step(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + every_s
            _tell(f"{title}: step {done}/{total}")

    return on_step
