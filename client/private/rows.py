"""The rows of a .jsonl or .csv file, each with its line number, or with the fault of that line.

Messages never quote a text. Parser exceptions carry the document they failed on. None is ever chained to an error
made here: it is dropped before the error is made.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from client.private.labels import kind
from transfer.errors import DataError
from transfer.files.text import MALFORMED, json_lines, lines

Row = tuple[str, dict[str, object] | DataError]
"""FILE:LINE, and the fields of that line."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may separate the columns of a table; the header decides."""
_SEP = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n|$)')
"""Excel's own first line, which names the delimiter."""

Cells = list[str] | str
"""A row of a table, or the reason why it cannot be read."""


def jsonl(name: str, content: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the objects of a file with one per line; skip blank lines."""
    for number, record in json_lines(lines(content)):
        place = f"{name}:{number}"
        if record is MALFORMED:
            shape = ", ".join(f'"{key}": …' for key in wanted)
            yield place, DataError(f"{place}: malformed JSON: write one object per line, {{{shape}}}")
        elif not isinstance(record, dict):
            needed = " and ".join(wanted)
            yield place, DataError(f"{place}: {kind(record)}, but must be an object with {needed}")
        else:
            yield place, record


def table(name: str, content: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows below a header, split at the header's delimiter; skip empty rows.

    Raises:
        DataError: the header does not name every wanted column once.
    """
    statement = _SEP.match(content)
    content, above = (content[statement.end() :], 1) if statement else (content, 0)
    delimiter = statement[1] if statement else _delimiter(content, wanted)
    rows = _rows(content, delimiter, above)
    line, header = next(rows, (0, ""))
    if not line:
        return
    if isinstance(header, str):
        raise DataError(f"{name}:{line}: {header}")
    if lacking := _lacking(header, wanted):
        raise DataError(
            f"{name}:{line}: field {lacking!r}: the header must name it once ({','.join(wanted)}); it has "
            f"{len(header)} columns, separated by {DELIMITERS.get(delimiter, repr(delimiter))}"
        )
    places = {field: _places(header, field)[0] for field in wanted}
    for line, cells in rows:
        place = f"{name}:{line}"
        fault = _fault(header, cells, delimiter)
        if fault or isinstance(cells, str):
            yield place, DataError(f"{place}: {fault}")
        else:
            yield place, {field: cells[index] for field, index in places.items()}


def _rows(content: str, delimiter: str, above: int = 0) -> Iterator[tuple[int, Cells]]:
    """Yield each row with the number of its first line; `above` lines precede `content`."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        cells = _next(reader)
        if isinstance(cells, str):
            yield before + 1 + above, cells + _unread(before + 1 + above, reader.line_num + above)
        elif any(cell.strip() for cell in cells):
            yield before + 1 + above, cells
        elif before == reader.line_num:  # nothing was left to read
            return


def _next(reader: Iterator[list[str]]) -> Cells:
    try:
        return next(reader, [])
    except csv.Error as error:
        unclosed = str(error) == "unexpected end of data"
    # raised outside the handler: the parser's exception carries the text and must not be chained
    fault = "a quote is never closed" if unclosed else "a quote is misplaced or a field is too long"
    return f"malformed CSV: {fault}"


def _unread(first: int, last: int) -> str:
    """The lines that a fault hides: an open quote swallows the lines after it."""
    return f"; lines {first} to {last} were not read" if last > first else ""


def _delimiter(content: str, wanted: Sequence[str]) -> str:
    """The first delimiter that gives every wanted column, or else the one that gives most columns."""
    headers = {delimiter: _header(content, delimiter) for delimiter in DELIMITERS}
    return max(headers, key=lambda each: (not _lacking(headers[each], wanted), len(headers[each])))


def _header(content: str, delimiter: str) -> list[str]:
    _, cells = next(_rows(content, delimiter), (0, ""))
    return [] if isinstance(cells, str) else cells


def _lacking(header: Sequence[str], wanted: Sequence[str]) -> str:
    """The first field that the header does not name once; "" if it names all."""
    return next((field for field in wanted if len(_places(header, field)) != 1), "")


def _places(header: Sequence[str], field: str) -> list[int]:
    """The columns of a field: those of its exact name, or else those that differ in case or spaces."""
    names = [name.strip() for name in header]
    if field in names:
        return [index for index, name in enumerate(names) if name == field]
    return [index for index, name in enumerate(names) if name.lower() == field]


def _fault(header: Sequence[str], cells: Cells, delimiter: str) -> str:
    """The fault of a row, "" if it has none. Unnamed columns may be missing; surplus ones may be empty."""
    if isinstance(cells, str):
        return cells
    counts = f"{len(cells)} column{'s' * (len(cells) != 1)} where the header has {len(header)}"
    if len(cells) < max(index for index, name in enumerate(header, 1) if name.strip()):
        return f"{counts}: fill in the missing ones, or quote a line break"
    if any(cell.strip() for cell in cells[len(header) :]):
        return f"{counts}: quote {DELIMITERS.get(delimiter, repr(delimiter))}"
    return ""
