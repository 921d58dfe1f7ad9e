"""References to files by name, size and digest, and files that are written whole or not at all."""

import glob
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transfer.errors import AlreadyExistsError, UsageError, VerificationError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of an artifact.

    Attributes:
        path: plain file name, without directory part or leading dot, so that it cannot point elsewhere.
        size: size in bytes, ≥ 0.
        digest: SHA-256, 64 lower-case hex digits.

    Raises:
        VerificationError: a field breaks its rule.
    """

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.path):
            raise VerificationError(f"file name {self.path!r} is not a plain file name")
        if self.size < 0:
            raise VerificationError(f"{self.path}: size {self.size} is negative")
        if not _DIGEST.fullmatch(self.digest):
            raise VerificationError(f"{self.path}: digest {self.digest!r} is not a SHA-256 in hex")

    @staticmethod
    def of_bytes(path: str, content: bytes) -> "FileRef":
        """Return a reference to `content` under the name `path`."""
        return FileRef(path, len(content), hashlib.sha256(content).hexdigest())

    @staticmethod
    def of_file(path: Path) -> "FileRef":
        """Return a reference to a file on disk."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileRef(path.name, file.tell(), digest)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Create `path` durably; after a crash it is complete or absent.

    Raises:
        AlreadyExistsError: `path` exists; it is left unchanged.
        UsageError: the directory cannot be written.
    """
    draft = _draft(path)
    try:
        _write(draft, content, mode)
        try:
            os.link(draft, path)  # unlike a rename, a link never replaces what is there
        finally:
            draft.unlink()
        sync_directory(path.parent)
    except FileExistsError as error:
        raise AlreadyExistsError(f"{path} exists already: it is never overwritten") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path` durably; after a crash it has the old content or the new.

    Raises:
        UsageError: the directory cannot be written.
    """
    draft = _draft(path)
    try:
        _write(draft, content, mode)
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[Path]:
    """Yield an empty draft that replaces `path` durably if the block succeeds and is removed if not.

    Raises:
        UsageError: the directory cannot be written.
    """
    draft = _draft(path)
    try:
        _write(draft, b"", mode)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(path: Path) -> None:
    """Remove drafts of `path` that killed processes left beside it; call it only while no process writes `path`."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}"):
        draft.unlink()


@contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """Yield a draft directory that becomes `place` if the block succeeds and is removed if not.

    Raises:
        UsageError: the directory cannot be written.
    """
    draft = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        yield draft
        draft.rename(place)
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def sync_directory(directory: Path) -> None:
    """Flush a directory, so that creations and renames in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _write(draft: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
