"""Settings files: one TOML file per side, read into a frozen pydantic model or refused in one line.

A model derives from `Settings`. A path in it has the type `Located`: a relative path starts at the settings file's
directory, wherever you start the process. Settings files contain no secrets, only paths to them.

    class Policy(Settings):
        max_epsilon: float

    class Client(Settings):
        policy: Policy
        data: Located

    client = load(Path("client.toml"), Client)
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails

from transfer.errors import ConfigError, UsageError
from transfer.files.text import NotTextError, is_unicode, toml


class Settings(BaseModel):
    """A table of a settings file: frozen, and without unknown keys; `called` names the kind of file in messages."""

    called: ClassVar[str] = "settings file"
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


def _located(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Path:
    directory: Path = (info.context or {}).get("directory", Path())
    path: Path = value if isinstance(value, Path) else handler(value)  # a default is a Path already
    if "\0" in str(path):
        raise ValueError("a path cannot hold a NUL character")
    return directory / at_home(path)


def at_home(path: Path) -> Path:
    """Return `path` with `~` and `~user` expanded; leave a path unchanged if its ~ names no user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


Located = Annotated[Path, WrapValidator(_located)]
"""A path; a relative one starts at the directory of the settings file, `~` is the home directory."""

Model = TypeVar("Model", bound=Settings)


def load(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into `model`.

    Raises:
        ConfigError: the file is missing or not TOML, or a key is unknown, missing or impossible; the message names
            file, table and key, and the nearest known key, in one line.
    """
    return parse(tables(path, model.called), path, model)


def parse(raw: dict[str, Any], path: Path, model: type[Model]) -> Model:
    """Validate tables read from `path`, or to be written there.

    Raises:
        ConfigError: see `load`.
    """
    try:
        # only pydantic's JSON mode is strict and still turns an array into a tuple
        content = json.dumps(raw, default=lambda value: value.isoformat())
        return model.model_validate_json(content, context={"directory": path.parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error, model)}") from None
    except (ValueError, RecursionError):  # of json: a number of thousands of digits, or tables by the hundred
        raise ConfigError(f"{path}: a number is too long, or tables are nested too deeply") from None
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error


def filled(example: str, values: Mapping[tuple[str, str], Any]) -> str:
    """Return the commented `example` of a settings file with `values` filled in by (table, key).

    Comments and order stay. A commented setting (`# key = …`) becomes active, and a value of None comments its
    setting out.

    Raises:
        ConfigError: the example lacks a pair, or a value is not Unicode, which file names may be.
    """
    left, table, lines = dict(values), "", []
    for line in example.splitlines():
        if heading := re.fullmatch(r"\[([\w.]+)\]", line):
            table = heading[1]
        key = line.removeprefix("# ").partition(" = ")[0]
        changed = (table, key) in left
        lines.append(_setting(key, left.pop((table, key)), line) if changed else line)
    for table, key in left:
        raise ConfigError(f"[{table}] {key} is not in the example settings; add it there")
    return "\n".join(lines) + "\n"


def _setting(key: str, value: Any, line: str) -> str:
    if isinstance(value, str) and not is_unicode(value):
        raise ConfigError(f"{key} {value!r} is not Unicode: rename that file or directory")
    return tomli_w.dumps({key: value}).strip() if value is not None else f"# {line.removeprefix('# ')}"


def tables(path: Path, called: str) -> dict[str, Any]:
    """Read the tables of a TOML file; `called` names the kind of file in messages.

    Raises:
        ConfigError: the file is missing or not TOML.
    """
    try:
        return toml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the {called}: {error.strerror}") from error
    except NotTextError as error:
        raise ConfigError(error.of(path)) from error


def _first(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first mistake as text; a misspelt key comes before the key that is missing because of it."""
    details = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    text = _describe(details[0], model)
    return text if len(details) == 1 else f"{text} (and {len(details) - 1} more)"


def _describe(detail: ErrorDetails, model: type[BaseModel]) -> str:
    *tables, key = detail["loc"] or ("",)
    table = ".".join(map(str, tables))
    if detail["type"] == "extra_forbidden":
        place = f" in [{table}]" if table else ""
        return f"unknown key {str(key)!r}{place}{_suggestion(str(key), _keys(model, tables))}"
    place = " ".join(filter(None, [f"[{table}]" if table else "", str(key)]))
    if detail["type"] == "missing":
        return f"{place}: missing; this key is required"
    message = detail["msg"].removeprefix("Value error, ")
    value = detail["input"]
    shown = "" if isinstance(value, dict | list) else f", got {_shorten(repr(value))}"
    return " ".join(f"{place}: {message[:1].lower()}{message[1:]}{shown}".split())


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f" (keys: {', '.join(known)})"


def _keys(model: type[BaseModel], tables: Sequence[int | str]) -> list[str]:
    """Return the keys that the table at `tables` may have."""
    current: type[BaseModel] | None = model
    annotation: Any = model
    for part in tables:
        current = _table(annotation)
        if current is not None and part in (names := _names(current)):
            annotation = current.model_fields[names[str(part)]].annotation
        else:
            inner = get_args(annotation) or (None,)
            annotation = inner[0] if isinstance(part, int) else inner[-1]  # a list's item, a dict's table
    current = _table(annotation)
    return sorted(_names(current)) if current is not None else []


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return attribute names by key in the file."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def _table(annotation: Any) -> type[BaseModel] | None:
    """Return the model behind an annotation such as `Policy` or `Policy | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((table for part in get_args(annotation) if (table := _table(part))), None)
    return None
