"""A record's label, or its labels, as the task's classes, given by name or by index.

A label means the same class as a JSON number, a JSON string or a CSV cell. Class names may be numbers themselves.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from transfer.errors import DataError
from transfer.files.text import Number

SEPARATOR = "|"
"""What separates several labels in a cell of a table."""
_QUOTED = 40
_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{0,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_LARGEST = 9
"""Digits of the largest index."""


class Classes:
    """The classes of a task by name, in the order of their indices.

    A label that equals no name is compared by value: `1.0` and `01` mean class "1", `TRUE` means class "true".
    An integer is an index only if no class name is a number.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._meanings = tuple(map(_meaning, names))
        self._known = f"(labels: {', '.join(names)})"

    def index(self, value: object) -> int:
        """Return the index of the class that a label means.

        Raises:
            DataError: the label means no class, or several.
        """
        spelt = _spelt(value)
        if spelt in self._names:
            return self._names.index(spelt)
        meaning = None if spelt is None else _meaning(spelt)
        same = [index for index, known in enumerate(self._meanings) if known is not None and known == meaning]
        if len(same) == 1:
            return same[0]
        if same:
            either = " or ".join(repr(self._names[index]) for index in same)
            raise DataError(f"{_quoted(str(spelt))} could be {either}: spell it as the task does, in quotes")
        return self._by_index(value)

    def indices(self, value: object, *, cell: bool) -> tuple[int, ...]:
        """Return the indices, in ascending order, of the classes that a list of any length means.

        Messages name an item by its place and never quote it: a list may by mistake hold the words of a text.

        Args:
            value: a JSON array; or where `cell` is true, the text of a table's cell, with `SEPARATOR` between labels.
            cell: whether the value comes from a table.

        Raises:
            DataError: the value is no list, an item means no class or several, or two items mean the same class.
        """
        items = _items(value) if cell else value
        if not isinstance(items, list):
            raise DataError(f"{kind(value)}, but must be an array of indices or names {self._known}")
        places: dict[int, int] = {}
        for place, item in enumerate(items, 1):
            index = self._index_or_none(item)
            if index is None:
                raise DataError(f"item {place} of {len(items)} is none of the labels {self._known}")
            if places.setdefault(index, place) != place:
                raise DataError(
                    f"item {place} of {len(items)} repeats item {places[index]}; keep one of them"
                )
        return tuple(sorted(places))

    def _index_or_none(self, value: object) -> int | None:
        try:
            return self.index(value)
        except DataError:
            return None  # its message may quote the value, so no other error is raised while it is handled

    def _by_index(self, value: object) -> int:
        spelt = value.spelt if isinstance(value, Number) else value
        if not isinstance(spelt, str):
            raise DataError(f"{kind(value)}, but must be an index or a name {self._known}")
        named = any(isinstance(meaning, Decimal) for meaning in self._meanings)
        if named or not _INTEGER.fullmatch(spelt):
            if not named and isinstance(value, Number):
                raise DataError(f"a number, but must be an index or a name {self._known}")
            raise DataError(f"unknown label {_quoted(spelt)} {self._known}")
        index = int(spelt) if len(spelt) <= _LARGEST else -1
        if not 0 <= index < len(self._names):
            raise DataError(f"no label has this index {self._known}")
        return index


def kind(value: object) -> str:
    """JSON's name for the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Number() | float():  # a float is NaN or Infinity
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"


def _items(cell: object) -> object:
    """Split a cell at `SEPARATOR`; an empty one has no items. What is no text stays as it is."""
    if not isinstance(cell, str):
        return cell
    return [item.strip() for item in cell.split(SEPARATOR)] if cell.strip() else []


def _spelt(value: object) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case Number():
            return value.spelt
    return None


def _meaning(spelt: str) -> Decimal | bool | None:
    """The number or truth value of a label's text; None if it has neither."""
    if spelt.lower() in ("true", "false"):
        return spelt.lower() == "true"
    return Decimal(spelt) if _NUMBER.fullmatch(spelt) else None


def _quoted(value: str) -> str:
    return repr(value if len(value) <= _QUOTED else value[: _QUOTED - 1] + "…")
