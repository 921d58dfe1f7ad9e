"""Files of published prompts on disk, under their digests: one copy for everybody who downloads them.

The store holds a file as one value, which can only be read whole. It is read once and laid here; downloads then
read as much as their reader takes. What lies here can be removed at any time; it is laid anew.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from transfer.errors import UnavailableError, UsageError
from transfer.files.atomic import FileRef, replace


class Shelf:
    """Safe to use from many threads and processes.

    Args:
        directory: made when the first file is laid into it, for its owner alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._laid: set[str] = set()
        self._laying = threading.Lock()

    def path(self, file: FileRef, content: Callable[[], bytes]) -> Path:
        """Where the file lies; asks for its content if it does not lie there yet, for one file at a time.

        Raises:
            UnavailableError: it cannot be written.
        """
        path = self._directory / file.digest
        with self._laying:
            if file.digest not in self._laid or not path.is_file():
                self._lay(path, file, content)
                self._laid.add(file.digest)
        return path

    def _lay(self, path: Path, file: FileRef, content: Callable[[], bytes]) -> None:
        try:
            if path.is_file() and FileRef.of_file(path).digest == file.digest:
                return  # by an earlier process
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, content())
        except (OSError, UsageError) as error:
            raise UnavailableError(f"{path}: cannot keep a copy for downloads: {error}") from error
