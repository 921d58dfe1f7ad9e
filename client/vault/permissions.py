"""Refusal of secret files that others may open."""

import stat
from pathlib import Path

from transfer.errors import UsageError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def require_private(path: Path, mode: int) -> None:
    """Refuse a file of that `st_mode` if its group or others may do anything with it.

    Raises:
        UsageError: they may.
    """
    if mode & _OTHERS:
        raise UsageError(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
