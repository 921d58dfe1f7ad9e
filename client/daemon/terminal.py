"""Questions to the owner on the daemon's terminal."""

import select
import sys
import threading

from transfer.errors import UsageError

_LOOK_EVERY_S = 0.2


def require() -> None:
    """Refuse to start without a terminal.

    Raises:
        UsageError: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("--ask needs a terminal, and there is none: start it in one, or leave out --ask")


def agrees(question: str, stop: threading.Event) -> bool:
    """Return whether the answer is yes; False once `stop` is set or the terminal is closed."""
    _say(f"\n{question}\nTake part? [y/n] ")
    while not stop.is_set():
        if not select.select([sys.stdin], [], [], _LOOK_EVERY_S)[0]:
            continue
        line = sys.stdin.readline()
        match line.strip().lower():
            case "y" | "yes":
                return True
            case "n" | "no":
                return False
        if not line:
            return False
        _say("y or n? ")
    return False


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
