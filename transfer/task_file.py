"""The keys of a task file and the types of their values; `transfer.tasks` has their meaning.

Messages name the file, the key and the value, of which they show at most 60 characters.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer.errors import TaskError
from transfer.files.text import NotTextError, toml

_REQUIRED = {"name": str, "template": str, "labels": dict, "init_text": str}
_KINDS = {
    **_REQUIRED,
    "kind": str,
    "max_tokens": int,
    "label_reading": str,
    "answer_tokens": int,
    "chat": bool,
    "system": str,
    "prompt_at": str,
    "many": bool,
    "threshold": float,
    "weights": dict,
}
_NOUNS = {
    str: "a string",
    dict: "a table by class",
    int: "a whole number",
    bool: "true or false",
    float: "a number in (0, 1), such as 0.5",
}


def read(path: Path) -> dict[str, Any]:
    """Return the content of a task file; the weights of labels are floats.

    Raises:
        TaskError: the file is missing, not TOML, or a key is unknown, missing or of the wrong type.
    """
    try:
        raw = toml(path.read_bytes())
    except OSError as error:
        raise TaskError(f"{path}: cannot read the task file: {error.strerror}") from error
    except NotTextError as error:
        raise TaskError(error.of(path)) from error
    _check_keys(raw, path)
    _check_labels(raw.get("labels", {}), path)
    if "weights" in raw:
        raw["weights"] = _weights(raw["weights"], raw.get("labels", {}), path)
    return raw


def _check_keys(raw: dict[str, Any], path: Path) -> None:
    for key, value in raw.items():
        if key not in _KINDS:
            raise TaskError(f"{path}: unknown key {key!r} (keys: {', '.join(_KINDS)})")
        if type(value) is not _KINDS[key]:
            raise TaskError(f"{path}: {key} {shortened(value)} must be {_NOUNS[_KINDS[key]]}")
    free = {"labels"} if raw.get("kind") == "text" else set()
    missing = [key for key in _REQUIRED if key not in raw and key not in free]
    if missing:
        raise TaskError(f"{path}: missing key {missing[0]!r}; add it")


def _check_labels(labels: Mapping[str, Any], path: Path) -> None:
    for name, words in labels.items():
        if isinstance(words, dict):
            raise TaskError(f'{path}: labels.{name}: a class name with a dot needs quotes; write "1.5" = …')
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TaskError(f"{path}: labels.{name} {shortened(words)} must be a list of label words")


def _weights(weights: Mapping[str, Any], labels: Mapping[str, Any], path: Path) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in labels:
            raise TaskError(f"{path}: weights.{name}: no label has this name; write one of [labels]")
        if type(weight) not in (int, float):
            raise TaskError(f"{path}: weights.{name} {shortened(weight)} must be a number > 0")
    return {name: _number(weight) for name, weight in weights.items()}


def _number(value: float) -> float:
    """Return a number of a TOML file, which knows integers of any size, as a float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def shortened(value: object) -> str:
    """Return `value` as text of at most 60 characters, for a message."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print an integer of more than 4300 digits
        return "with thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
