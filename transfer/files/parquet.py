"""The column of texts of a Parquet file, read batch by batch. pyarrow, which reads it, is an optional dependency."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transfer.errors import DataError

COLUMN = "text"
ROWS = 1024
"""Rows in memory at a time, beside the compressed pages of a group of rows."""
_HOW = {"pre_buffer": False, "page_checksum_verification": True}
"""Read page by page, and compare each page with its checksum, if it has one."""


def rows(path: Path) -> Iterator[tuple[int, str | None]]:
    """Yield number, from 1, and value of each row of the column; the value is None if there is none, or no text.

    Raises:
        DataError: pyarrow is not installed; or the file is damaged, or has no such column of strings.
        OSError: the file cannot be read.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet needs pyarrow, which is not installed: pip install promptferry[parquet]"
        ) from error
    row = 0
    try:
        with path.open("rb") as content, ParquetFile(content, **_HOW) as file:
            _require_strings(path, file.schema_arrow)
            for batch in file.iter_batches(ROWS, columns=[COLUMN], use_threads=False):
                for value in batch.column(0):
                    row += 1
                    yield row, _text(value)
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # pyarrow raises some without, where a page is damaged
            raise
        place = f"{path}: behind row {row}" if row else f"{path}"
        reason = " ".join(str(error).split())
        raise DataError(f"{place}: no Parquet, or damaged ({reason}); write it again") from error


def _require_strings(path: Path, schema: Any) -> None:
    if COLUMN not in schema.names:
        raise DataError(
            f"{path}: has no column {COLUMN!r}, only {', '.join(schema.names)}; rename the one with texts"
        )
    if schema.names.count(COLUMN) > 1:
        raise DataError(f"{path}: has several columns {COLUMN!r}; rename all but the one with texts")
    kind = schema.field(COLUMN).type
    each = kind.value_type if str(kind).startswith("dictionary<") else kind
    if str(each) not in {"string", "large_string", "string_view"}:
        raise DataError(f"{path}: column {COLUMN!r} holds {kind}, not strings; write it again")


def _text(value: Any) -> str | None:
    try:
        text: str | None = value.as_py()
    except UnicodeDecodeError:
        return None
    return None if text is None or "\0" in text else text  # as in other files, a NUL byte is no text
