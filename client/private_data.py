"""Private text and its answers, read from .jsonl or .csv. No other module opens it.

Messages name the file, the line and the field and never quote a text or a user: a label value is quoted, cut to 40
characters. Parser exceptions carry the document they failed on, so none is ever chained to an error raised
here: it is dropped before the error is made.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.errors import DataError
from transfer.privacy import Unit

_QUOTED = 40
_MISSING = object()
_BROKEN = object()


@dataclass(frozen=True, slots=True, repr=False)
class PrivateRecords:
    """Texts, and for each its label's index or its answer in free text; `repr` shows nothing of them.

    `users` names whose record each is, where the unit of privacy is the user.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.texts or {len(self.labels), len(self.answers)} != {0, len(self.texts)}:
            raise DataError("private records need one label or answer for each text, and at least one text")
        if len(self.users) not in {0, len(self.texts)}:
            raise DataError("private records need a user for each text, or none at all")

    def __repr__(self) -> str:
        return type(self).__name__

    def by_user(self) -> list[list[int]]:
        """Indices of each user's records; users and their records in the order of the file.

        Raises:
            DataError: the records name no users.
        """
        if not self.users:
            raise DataError("private records name no users: read them for the unit 'user'")
        found: dict[str, list[int]] = {}
        for index, user in enumerate(self.users):
            found.setdefault(user, []).append(index)
        return list(found.values())


def read(path: Path, labels: Sequence[str], unit: Unit = "record") -> PrivateRecords:
    """Reads every record of a file.

    `.jsonl`: an object a line with `text` and `label` (index or name), other fields ignored, blank lines
    skipped. `.csv`: a header with `text` and `label` (name or index), other columns ignored. If there are no
    labels the answer is free text and stands in `answer` instead.

    Args:
        path: UTF-8, with or without a byte order mark.
        labels: names of the classes, in the order of their indices; none for answers in free text.
        unit: for "user" each record says in `user` whose it is: the same string, the same person.

    Raises:
        DataError: `FILE:LINE: field …: what is wrong`, one line, without any private text.
    """
    formats = {".jsonl": _jsonl, ".csv": _csv}
    if path.suffix.lower() not in formats:
        raise DataError(f"{path}: unknown format {path.suffix!r}: use .jsonl or .csv")
    wanted = ("text", "label" if labels else "answer", *(["user"] if unit == "user" else []))
    texts: list[str] = []
    indices: list[int] = []
    answers: list[str] = []
    users: list[str] = []
    for line, fields in formats[path.suffix.lower()](path, _decoded(path), wanted):
        place = f"{path}:{line}"
        texts.append(_text(place, "text", fields))
        if labels:
            indices.append(_label(place, fields.get("label", _MISSING), labels))
        else:
            answers.append(_text(place, "answer", fields))
        if unit == "user":
            users.append(_text(place, "user", fields))
    if not texts:
        raise DataError(f"{path}: no records")
    return PrivateRecords(tuple(texts), tuple(indices), tuple(answers), tuple(users))


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise DataError(f"{path}:{line}: not UTF-8: save the file as UTF-8")


def _jsonl(path: Path, content: str, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    # Not splitlines(): JSON strings may hold U+2028 and others that it would split at.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        record = _parsed(line)
        if record is _BROKEN:
            shape = ", ".join(f'"{name}": …' for name in wanted)
            raise DataError(f"{path}:{number}: malformed JSON: one object a line, {{{shape}}}")
        if not isinstance(record, dict):
            raise DataError(
                f"{path}:{number}: {_kind(record)} where an object with {' and '.join(wanted)} should be"
            )
        yield number, record


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _BROKEN


def _csv(path: Path, content: str, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        row = _next_row(rows)
        if row is None:
            return
        if row is _BROKEN or not isinstance(row, list):
            raise DataError(f"{path}:{line}: malformed CSV: a quote is misplaced or a field is too long")
        if not row:
            continue
        if header is None:
            header = _header(f"{path}:{line}", row, wanted)
        elif len(row) != len(header):
            raise DataError(
                f"{path}:{line}: {len(row)} columns where the header has {len(header)}: quote commas"
            )
        else:
            yield line, dict(zip(header, row, strict=True))


def _next_row(rows: Iterator[list[str]]) -> object:
    try:
        return next(rows, None)
    except csv.Error:
        return _BROKEN


def _header(place: str, row: list[str], wanted: Sequence[str]) -> list[str]:
    names = [name.strip() for name in row]
    for needed in wanted:
        if names.count(needed) != 1:
            raise DataError(f"{place}: field {needed!r}: the header must name it once ({','.join(wanted)})")
    return names


def _text(place: str, name: str, fields: Mapping[str, object]) -> str:
    value = fields.get(name, _MISSING)
    if value is _MISSING:
        raise DataError(f"{place}: field {name!r}: missing")
    if not isinstance(value, str):
        raise DataError(f"{place}: field {name!r}: {_kind(value)} where a string should be")
    if not value.strip():
        raise DataError(f"{place}: field {name!r}: empty")
    if not _encodable(value):
        raise DataError(f"{place}: field {name!r}: half of a surrogate pair: not valid Unicode")
    return value


def _label(place: str, value: object, labels: Sequence[str]) -> int:
    known = f"(labels: {', '.join(labels)})"
    match value:
        case str() if value in labels:
            return labels.index(value)
        case str() if value.isascii() and value.isdecimal() and len(value) < 10:
            value = int(value)
    match value:
        case bool() | None | float() | list() | dict():
            raise DataError(
                f"{place}: field 'label': {_kind(value)} where an index or a name should be {known}"
            )
        case int() if 0 <= value < len(labels):
            return value
        case int():
            raise DataError(f"{place}: field 'label': no label has this index {known}")
        case str():
            raise DataError(f"{place}: field 'label': unknown label {_quoted(value)} {known}")
    raise DataError(f"{place}: field 'label': missing")


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _QUOTED else value[: _QUOTED - 1] + "…")


def _kind(value: object) -> str:
    """JSON's name for the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
