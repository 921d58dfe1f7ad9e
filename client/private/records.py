"""Private text and its answers, read from .jsonl, .csv or .tsv. No other module opens it.

Messages name the file, the line and the field and never quote a text or a user: a label value is quoted, cut to 40
characters. No exception of a parser, which would carry the text, is ever chained to an error raised here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.private import rows
from client.private.labels import Classes, kind
from transfer.errors import DataError
from transfer.files.text import NotTextError, decoded, is_unicode
from transfer.privacy import Unit

FAULTS_TOLD = 20
"""Faults of a file that are told one by one."""
_FORMATS = {".jsonl": rows.jsonl, ".csv": rows.table, ".tsv": rows.table}
_MISSING = object()
_Record = dict[str, str | int]
"""Fields of a record, its label as an index."""


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


@dataclass(frozen=True, slots=True, repr=False)
class Examined:
    """All that is in a file: its good records, the first faults of the others, and how many more there are."""

    records: PrivateRecords | None
    faults: tuple[str, ...]
    more_faults: int


def read(path: Path, labels: Sequence[str], unit: Unit = "record") -> PrivateRecords:
    """Reads every record of a file.

    `.jsonl`: an object a line with `text` and `label`, other fields ignored, blank lines skipped. `.csv`, `.tsv`: a
    header with `text` and `label`, other columns ignored, parted by commas, semicolons or tabs. A label is a name
    or an index, see `client.private.labels`. If there are no labels the answer is free text and stands in `answer`
    instead.

    Args:
        path: UTF-8, with or without a byte order mark.
        labels: names of the classes, in the order of their indices; none for answers in free text.
        unit: for "user" each record says in `user` whose it is: the same string, the same person.

    Raises:
        DataError: `FILE:LINE: field …: what is wrong`, one line, without any private text.
    """
    good = []
    for found in _records(path, labels, unit):
        if isinstance(found, DataError):
            raise found
        good.append(found)
    if not good:
        raise DataError(f"{path}: no records")
    return _gathered(good)


def examine(path: Path, labels: Sequence[str], unit: Unit = "record") -> Examined:
    """Reads a file as `read` does, and past what is wrong with a record.

    Raises:
        DataError: there are no records, or the file as a whole cannot be read.
    """
    good: list[_Record] = []
    faults: list[str] = []
    more = 0
    for found in _records(path, labels, unit):
        if not isinstance(found, DataError):
            good.append(found)
        elif len(faults) < FAULTS_TOLD:
            faults.append(str(found))
        else:
            more += 1
    if not good and not faults:
        raise DataError(f"{path}: no records")
    return Examined(_gathered(good) if good else None, tuple(faults), more)


def _records(path: Path, labels: Sequence[str], unit: Unit) -> Iterator[_Record | DataError]:
    """Each good record, or each fault of the others."""
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise DataError(f"{path}: unknown format {path.suffix!r}: use .jsonl, .csv or .tsv")
    wanted = ("text", "label" if labels else "answer", *(["user"] if unit == "user" else []))
    classes = Classes(labels)
    for place, fields in form(str(path), _content(path), wanted):
        if isinstance(fields, DataError):
            yield fields
            continue
        record, faults = _checked(place, {name: fields.get(name, _MISSING) for name in wanted}, classes)
        yield from faults
        if not faults:
            yield record


def _checked(place: str, fields: Mapping[str, object], classes: Classes) -> tuple[_Record, list[DataError]]:
    record: _Record = {}
    faults = []
    for name, value in fields.items():
        try:
            record[name] = _value(name, value, classes)
        except DataError as error:
            faults.append(DataError(f"{place}: field {name!r}: {error}"))
    return record, faults


def _gathered(records: Sequence[_Record]) -> PrivateRecords:
    def column(name: str) -> tuple[Any, ...]:
        return tuple(record[name] for record in records if name in record)

    return PrivateRecords(column("text"), column("label"), column("answer"), column("user"))


def _content(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except NotTextError as error:
        raise DataError(error.of(path)) from error


def _value(name: str, value: object, classes: Classes) -> str | int:
    if value is _MISSING:
        raise DataError("missing")
    return classes.index(value) if name == "label" else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{kind(value)} where a string should be")
    if not value.strip():
        raise DataError("empty")
    if not is_unicode(value):
        raise DataError("half of a surrogate pair: not valid Unicode")
    return value
