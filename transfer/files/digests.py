"""SHA-256 of large files, computed once.

The digest of a file of `LEAST_BYTES` or more is kept in the user's cache directory under its path, size, inode and
times of change. It is computed anew if one of them differs, or if you ask for it: a program that has the file mapped
into memory can change it without a new time.
"""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from transfer.files.user_cache import keep, place_of

LEAST_BYTES = 16 * 2**20
SETTLED_S = 2.0
"""Seconds since the last change after which a digest is kept: a clock of a file system may be that coarse."""


def sha256_of(path: Path, *, fresh: bool = False) -> str:
    """Return the SHA-256 of a file in lower-case hex; with `fresh`, read the file whatever was kept.

    Raises:
        OSError: the file cannot be read.
    """
    before = path.stat()
    if before.st_size < LEAST_BYTES:
        return _read(path)
    state = [str(path.resolve()), before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino]
    kept = place_of(("sha256", *state))
    if not fresh:
        with suppress(OSError, UnicodeError):
            if len(digest := kept.read_text()) == 64:
                return digest
    digest = _read(path)
    after = path.stat()
    same = (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    if same and time.time() - after.st_mtime > SETTLED_S:
        keep(kept, digest.encode())
    return digest


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
