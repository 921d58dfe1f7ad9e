"""One process at a time in a client's directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import UnavailableError, UsageError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a client directory; the kernel releases the lock however the process ends.

    Raises:
        UnavailableError: another process has the lock; names the process.
        UsageError: the directory cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise UnavailableError(
                f"{path.parent} is in use by another promptferry-client (process {holder}); stop it first"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
