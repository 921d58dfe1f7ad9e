"""Records in the text of a .jsonl or .csv file, each with its line, or what is wrong with that line.

Messages never quote a text. Parser exceptions carry the document they failed on, so none is ever chained to an
error made here: it is dropped before the error is made.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from client.classes import kind
from transfer.errors import DataError
from transfer.text_file import MALFORMED, json_lines

Row = tuple[str, dict[str, object] | DataError]
"""FILE:LINE, and the fields that stand there."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What may part the columns of a table; the header tells which it is."""
_SEP = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n|$)')
"""Excel's own first line."""
_MALFORMED = "malformed CSV: a quote is misplaced or a field is too long"

Cells = list[str] | None
"""A row of a table; None if it is malformed."""


def jsonl(name: str, content: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Objects, one a line; blank lines are skipped."""
    for number, record in json_lines(content):
        place = f"{name}:{number}"
        if record is MALFORMED:
            shape = ", ".join(f'"{key}": …' for key in wanted)
            yield place, DataError(f"{place}: malformed JSON: one object a line, {{{shape}}}")
        elif not isinstance(record, dict):
            needed = " and ".join(wanted)
            yield place, DataError(f"{place}: {kind(record)} where an object with {needed} should be")
        else:
            yield place, record


def table(name: str, content: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Rows below a header, parted as the header is; rows with nothing in them are skipped.

    Raises:
        DataError: the header does not name every wanted column once.
    """
    said = _SEP.match(content)
    content, above = (content[said.end() :], 1) if said else (content, 0)
    delimiter = said[1] if said else _delimiter(content, wanted)
    rows = _rows(content, delimiter)
    line, header = next(rows, (0, None))
    if not line:
        return
    if header is None:
        raise DataError(f"{name}:{line + above}: {_MALFORMED}")
    if lacking := _lacking(header, wanted):
        raise DataError(
            f"{name}:{line + above}: field {lacking!r}: the header must name it once ({','.join(wanted)}); it has "
            f"{len(header)} columns, parted by {DELIMITERS.get(delimiter, repr(delimiter))}"
        )
    places = {field: _places(header, field)[0] for field in wanted}
    for line, cells in rows:
        place = f"{name}:{line + above}"
        fault = _fault(header, cells, delimiter)
        if fault or cells is None:
            yield place, DataError(f"{place}: {fault}")
        else:
            yield place, {field: cells[index] for field, index in places.items()}


def _rows(content: str, delimiter: str) -> Iterator[tuple[int, Cells]]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        cells = _next(reader)
        if cells is None or any(cell.strip() for cell in cells):
            yield line, cells
        elif line > reader.line_num:  # nothing was left to read
            return


def _next(reader: Iterator[list[str]]) -> Cells:
    try:
        return next(reader, [])
    except csv.Error:
        return None


def _delimiter(content: str, wanted: Sequence[str]) -> str:
    """The first by which the header names all that is wanted, or else that which finds most columns."""
    headers = {delimiter: next(_rows(content, delimiter), (0, None))[1] or [] for delimiter in DELIMITERS}
    return max(headers, key=lambda tried: (not _lacking(headers[tried], wanted), len(headers[tried])))


def _lacking(header: Sequence[str], wanted: Sequence[str]) -> str:
    """The first field that is not named once, "" if all are."""
    return next((field for field in wanted if len(_places(header, field)) != 1), "")


def _places(header: Sequence[str], field: str) -> list[int]:
    """Columns of a field: those named so, or else those named so but for case and spaces."""
    names = [name.strip() for name in header]
    if field in names:
        return [index for index, name in enumerate(names) if name == field]
    return [index for index, name in enumerate(names) if name.lower() == field]


def _fault(header: Sequence[str], cells: Cells, delimiter: str) -> str:
    """What is wrong with a row, "" if nothing is: columns without a name may be missing or, if empty, too many."""
    if cells is None:
        return _MALFORMED
    named = max(index for index, name in enumerate(header, 1) if name.strip())
    if len(cells) < named or any(cell.strip() for cell in cells[len(header) :]):
        told = DELIMITERS.get(delimiter, repr(delimiter))
        return f"{len(cells)} columns where the header has {len(header)}: quote {told}"
    return ""
