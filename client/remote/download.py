"""Downloads that appear whole or not at all, and that resume where they were interrupted."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import (
    AlreadyExistsError,
    DeadlineError,
    UnavailableError,
    UsageError,
    VerificationError,
)
from transfer.files.atomic import FileRef, sync_directory

ATTEMPTS = 3
PAUSE_S = 0.2
"""Pause after an attempt that brought no bytes; twice as long after the second."""
OnBytes = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


@contextmanager
def staged(final: Path, tag: str) -> Iterator[Path]:
    """Open a directory beside `final` that becomes `final` when the body ends without an error.

    After a broken connection the directory stays, and the next call continues with its contents. After a verification
    failure it is removed.

    Args:
        final: where the directory appears.
        tag: part of a digest; it keeps remains of another version apart.

    Raises:
        AlreadyExistsError: `final` exists.
        UnavailableError: another process downloads to the same place.
        UsageError: a directory cannot be written.
    """
    if final.exists():
        raise AlreadyExistsError(f"{final} exists already: choose another directory or remove it")
    stage = final.with_name(f".{final.name}.{tag}.part")
    try:
        stage.mkdir(parents=True, exist_ok=True)
        with _locked(stage):
            yield stage
            sync_directory(stage)
            stage.rename(final)
            sync_directory(final.parent)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or final}: {error.strerror}") from error
    except VerificationError:
        shutil.rmtree(stage, ignore_errors=True)
        raise


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UnavailableError(f"{directory}: another process is downloading this") from error
    finally:
        os.close(descriptor)


def resumed(
    chunks: Callable[[int], Iterable[bytes]], file: FileRef, into: Path, on_bytes: OnBytes | None = None
) -> Path:
    """Download a file, continuing what an earlier attempt left.

    A broken connection is opened again until `ATTEMPTS` in a row bring no bytes.

    Args:
        chunks: calls the server for the file's bytes from an offset on.
        file: path, size and digest as announced.
        into: directory; the file appears in it complete and verified.
        on_bytes: called with the progress.

    Raises:
        UnavailableError, DeadlineError: of the last attempt; the bytes received so far stay.
        VerificationError: size or digest is not the announced one; the received bytes are deleted.
    """
    part, fruitless = PartialFile(into, file), 0
    while not part.is_there():
        before = part.size
        try:
            for chunk in chunks(before):
                part.append(chunk)
                if on_bytes is not None:
                    on_bytes(part.size, file.size)
        except (UnavailableError, DeadlineError) as error:
            fruitless = 0 if part.size > before else fruitless + 1
            if fruitless == ATTEMPTS or (fruitless and isinstance(error, DeadlineError)):
                raise
            time.sleep(PAUSE_S * fruitless)
        else:
            return part.finish()
    return into / file.path


class PartialFile:
    """A file being downloaded: FILE.part until it is complete and has the announced digest."""

    def __init__(self, directory: Path, file: FileRef) -> None:
        self._file, self._final = file, directory / file.path
        self._part = directory / f"{file.path}.{file.digest[:16]}.part"

    @property
    def size(self) -> int:
        """Bytes so far; a download continues there."""
        return self._part.stat().st_size if self._part.exists() else 0

    def is_there(self) -> bool:
        """Tell whether the finished file is in its place."""
        return self._final.is_file() and FileRef.of_file(self._final) == self._file

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end.

        Raises:
            VerificationError: more bytes than announced.
        """
        with self._part.open("ab") as part:
            part.write(chunk)
        if self.size > self._file.size:
            self._part.unlink()
            raise VerificationError(
                f"{self._file.path}: received more than the announced {self._file.size} bytes"
            )

    def finish(self) -> Path:
        """Verify the whole file and put it in its place, durably.

        Raises:
            VerificationError: size or SHA-256 is not the announced one; the received bytes are deleted.
        """
        self._part.touch()
        digest = FileRef.of_file(self._part).digest
        if self.size != self._file.size or digest != self._file.digest:
            size = self.size
            self._part.unlink()
            raise VerificationError(
                f"{self._file.path}: received {size} bytes with SHA-256 {digest[:16]}…, "
                f"but {self._file.size} with {self._file.digest[:16]}… were announced"
            )
        with self._part.open("rb") as part:
            os.fsync(part.fileno())
        self._part.replace(self._final)
        return self._final
