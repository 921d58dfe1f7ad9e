"""Private text and its answers, read from .jsonl, .csv or .tsv. No other module opens it.

Messages name the file, the line and the field. They never quote a text or a user; a label is quoted up to 40
characters. Parser exceptions carry the text, so none is ever chained to an error raised here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from client.private import rows
from client.private.labels import SEPARATOR, Classes, kind
from transfer.errors import DataError
from transfer.files.text import NotTextError, decoded, is_unicode
from transfer.privacy import Unit
from transfer.tasks import Truth

MOST_FAULTS = 20
"""Most faults of a file that are reported one by one."""
_FORMATS = {".jsonl": rows.jsonl, ".csv": rows.table, ".tsv": rows.table}
_MISSING = object()
_Record = dict[str, str | Truth]
"""Fields of a record; a label is an index, several labels are a tuple of indices."""
_Meaning = Callable[[object], Truth]
"""Turns the label, or the labels, of a file into indices, or raises a DataError."""


@dataclass(frozen=True, slots=True, repr=False)
class PrivateRecords:
    """Texts, each with its label, its labels or its free-text answer; `repr` shows none of them.

    `labels` has the index of each record's label, or for a task with several a text the indices of all its labels.
    `users` names the user of each record if the unit of privacy is the user.
    """

    texts: tuple[str, ...]
    labels: tuple[Truth, ...] = ()
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
        """Return the indices of each user's records; users and records keep the order of the file.

        Raises:
            DataError: the records name no users.
        """
        if not self.users:
            raise DataError("private records name no users: read them for the unit 'user'")
        indices: dict[str, list[int]] = {}
        for index, user in enumerate(self.users):
            indices.setdefault(user, []).append(index)
        return list(indices.values())


@dataclass(frozen=True, slots=True, repr=False)
class Examined:
    """A whole file: its good records, the first faults of the others, and the number of further faults."""

    records: PrivateRecords | None
    faults: tuple[str, ...]
    more_faults: int


def read(path: Path, labels: Sequence[str], unit: Unit = "record", *, many: bool = False) -> PrivateRecords:
    """Read every record of a file.

    A `.jsonl` file has one object per line with `text` and `label`; blank lines are skipped. A `.csv` or `.tsv` file
    has a header with `text` and `label`; commas, semicolons or tabs separate its columns. Other fields are ignored.
    A label is a name or an index, see `client.private.labels`. With `many`, `labels` takes the place of `label`: an
    array of any length, or in a table's cell names with `|` between them. Without labels the answer is free text, in
    `answer`.

    Args:
        path: UTF-8, with or without a byte order mark.
        labels: names of the classes, in the order of their indices; none for free-text answers.
        unit: for "user", each record names its user in `user`; equal strings are the same person.
        many: whether a text may have several labels.

    Raises:
        DataError: `FILE:LINE: field …: what is wrong`, one line, without any private text.
    """
    good = []
    for record in _records(path, labels, unit, many):
        if isinstance(record, DataError):
            raise record
        good.append(record)
    if not good:
        raise DataError(f"{path}: no records")
    return _gathered(good)


def examine(path: Path, labels: Sequence[str], unit: Unit = "record", *, many: bool = False) -> Examined:
    """Read a file as `read` does, but continue after a faulty record.

    Raises:
        DataError: there are no records, or the file as a whole cannot be read.
    """
    good: list[_Record] = []
    faults: list[str] = []
    more = 0
    for record in _records(path, labels, unit, many):
        if not isinstance(record, DataError):
            good.append(record)
        elif len(faults) < MOST_FAULTS:
            faults.append(str(record))
        else:
            more += 1
    if not good and not faults:
        raise DataError(f"{path}: no records")
    return Examined(_gathered(good) if good else None, tuple(faults), more)


def _records(path: Path, labels: Sequence[str], unit: Unit, many: bool) -> Iterator[_Record | DataError]:
    """Yield each good record, and each fault of the others."""
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise DataError(f"{path}: unknown format {path.suffix!r}: use .jsonl, .csv or .tsv")
    answer = "labels" if many else "label" if labels else "answer"
    wanted = ("text", answer, *(["user"] if unit == "user" else []))
    meaning = _meaning(path, labels, many, cells=form is rows.table)
    for place, fields in form(str(path), _content(path), wanted):
        if isinstance(fields, DataError):
            yield fields
            continue
        record, faults = _checked(place, {name: fields.get(name, _MISSING) for name in wanted}, meaning)
        yield from faults
        if not faults:
            yield record


def _meaning(path: Path, labels: Sequence[str], many: bool, *, cells: bool) -> _Meaning:
    """Return how labels are read.

    Raises:
        DataError: a table cannot hold the labels, because one of the task's names has the separator in it.
    """
    classes = Classes(labels)
    if not many:
        return classes.index
    parted = [name for name in labels if SEPARATOR in name]
    if cells and parted:
        raise DataError(
            f"{path}: label {parted[0]!r} of the task has {SEPARATOR!r} in it, which separates labels in a table; "
            "write the records as .jsonl"
        )
    return partial(classes.indices, cell=cells)


def _checked(place: str, fields: Mapping[str, object], meaning: _Meaning) -> tuple[_Record, list[DataError]]:
    record: _Record = {}
    faults = []
    for name, value in fields.items():
        try:
            record[name] = _value(name, value, meaning)
        except DataError as error:
            faults.append(DataError(f"{place}: field {name!r}: {error}"))
    return record, faults


def _gathered(records: Sequence[_Record]) -> PrivateRecords:
    def column(name: str) -> tuple[Any, ...]:
        return tuple(record[name] for record in records if name in record)

    return PrivateRecords(
        column("text"), column("label") or column("labels"), column("answer"), column("user")
    )


def _content(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except NotTextError as error:
        raise DataError(error.of(path)) from error


def _value(name: str, value: object, meaning: _Meaning) -> str | Truth:
    if value is _MISSING:
        raise DataError("missing")
    return meaning(value) if name in ("label", "labels") else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{kind(value)}, but must be a string")
    if not value.strip():
        raise DataError("empty")
    if not is_unicode(value):
        raise DataError("half of a surrogate pair: not valid Unicode")
    return value
