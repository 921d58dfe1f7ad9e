"""Refusal of secret files that other users may open."""

import stat
from pathlib import Path

from transfer.errors import UsageError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def require_private(path: Path, mode: int) -> None:
    """Refuse a file whose `st_mode` gives its group or others any permission.

    Raises:
        UsageError: the file is open to others.
    """
    if mode & _OTHERS:
        raise UsageError(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
