"""Cache of published prompts' files on disk, named by their digests: one copy for all downloads.

The store keeps a file as one value and can only read it whole. The cache reads it once and writes it to disk; each
download then reads only as much as its recipient takes. You may delete the cache at any time; it is written again.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from transfer.errors import UnavailableError, UsageError
from transfer.files.atomic import FileRef, replace


class FileCache:
    """The cache; safe to use from many threads and processes.

    Args:
        directory: directory of the files, created with the first file, for its owner alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digests: set[str] = set()
        self._lock = threading.Lock()

    def path(self, file: FileRef, content: Callable[[], bytes]) -> Path:
        """Return the file's path; if it is missing, write what `content` returns, one file at a time.

        Raises:
            UnavailableError: the file is not writable.
        """
        path = self._directory / file.digest
        with self._lock:
            if file.digest not in self._digests or not path.is_file():
                self._write(path, file, content)
                self._digests.add(file.digest)
        return path

    def _write(self, path: Path, file: FileRef, content: Callable[[], bytes]) -> None:
        try:
            if path.is_file() and FileRef.of_file(path).digest == file.digest:
                return  # an earlier process wrote it
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, content())
        except (OSError, UsageError) as error:
            raise UnavailableError(f"{path}: cannot keep a copy for downloads: {error}") from error
