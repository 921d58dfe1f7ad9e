"""The results file: one finished cell a line, durable before the next begins."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.benchmarks.quality_cells import Cell
from transfer.errors import DataError
from transfer.files.atomic import sync_directory

Record = dict[str, Any]
FIELDS = {"key", "method", "settings", "micro", "macro", "seconds", "tuning_seconds", "peak_mib"}
BESIDES = {"alpha", "library", "kept"}
"""Fields that cells of a transfer have besides; see `quality_bench.Delivered`."""


class Results:
    """A results file that can be gone on with.

    Args:
        path: made if it is not there.
        tell: called with a line about a last cell that was cut off, which is dropped from the file.

    Raises:
        DataError: a line before the last is damaged, so this is no file that we only ever appended to.
    """

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        self.path = path
        self.records, whole = read(path, tell) if path.exists() else ([], 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(whole)
        sync_directory(path.parent)
        self._keys = {record["key"] for record in self.records}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def renamed(self, cell: Cell, twin: Cell | None) -> Record | None:
        """The finished record of `twin` as that of `cell`; None if there is none."""
        told = {"key": cell.key, "method": cell.method, "settings": dict(cell.settings)}
        return next((record | told for record in self.records if twin and record["key"] == twin.key), None)

    def append(self, record: Record) -> None:
        """Add a finished cell; once this returns it survives a power cut."""
        with self.path.open("ab") as file:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)
        self._keys.add(record["key"])


def read(path: Path, tell: Callable[[str], object]) -> tuple[list[Record], int]:
    """The cells of a file and how many of its bytes hold them.

    Raises:
        DataError: the file cannot be read, or a line before the last is not a cell.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif number == len(lines):
            tell(f"{path}:{number}: cut off while it was written; that cell is not counted")
            return records, sum(map(len, lines[:-1]))
        else:
            raise DataError(f"{path}:{number}: not a finished cell; remove the line to measure it again")
    return records, sum(map(len, lines))


def read_all(paths: Iterable[Path], tell: Callable[[str], object]) -> list[Record]:
    """The cells of several files, each cell once."""
    found = {record["key"]: record for path in paths for record in read(path, tell)[0]}
    return list(found.values())


def _record(line: bytes) -> Record | None:
    """A whole line as a cell, or None."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(record, dict) and set(record) - BESIDES == FIELDS
    return record if whole else None
