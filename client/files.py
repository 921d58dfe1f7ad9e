"""Files only their owner may read: written whole or not at all, never over another."""

import os
import secrets
import stat
from pathlib import Path

from transfer.errors import AlreadyExistsError, UsageError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_new(path: Path, content: bytes) -> None:
    """Creates `path` with mode 0600 and `content`, durably; after a crash it is there whole or not there.

    Raises:
        AlreadyExistsError: something is there; it is left as it is.
        UsageError: the directory cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_draft(draft, content)
        try:
            os.link(draft, path)  # unlike a rename, a link never replaces what is there
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    except FileExistsError as error:
        raise AlreadyExistsError(f"{path} exists already: it is never overwritten") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def replace(path: Path, content: bytes) -> None:
    """Writes `path` anew with mode 0600, durably; after a crash it has the old content or the new."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write_draft(draft, content)
    draft.replace(path)
    _sync_directory(path.parent)


def require_private(path: Path, mode: int) -> None:
    """Refuses a file of that `st_mode` if its group or others may do anything with it.

    Raises:
        UsageError: they may.
    """
    if mode & _OTHERS:
        raise UsageError(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")


def _write_draft(draft: Path, content: bytes) -> None:
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
