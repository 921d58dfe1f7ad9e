"""A client's directory: settings, keys and an empty ledger, made together."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.home import custody
from client.home.settings import FILE, ClientConfig, example
from transfer.errors import AlreadyExistsError, DataError, UsageError
from transfer.files.atomic import write_new
from transfer.files.toml import filled, parse


def make(directory: Path, values: Mapping[tuple[str, str], Any]) -> ClientConfig:
    """Make a client directory whose settings are the commented example with `values` by (table, key).

    The settings file is written last. A directory without one is incomplete; making it again completes it.

    Raises:
        AlreadyExistsError: there is a settings file; nothing was changed.
        ConfigError: a value is impossible; nothing was changed.
        DataError: the private data is not a file; nothing was changed.
    """
    path = directory / FILE
    if path.exists():
        raise AlreadyExistsError(f"{path} exists already: edit it, or use another directory")
    text = filled(example(), values)
    config = parse(tomllib.loads(text), path, ClientConfig)
    if not config.data.path.is_file():
        raise DataError(f"{config.data.path}: no such file: name the private text with --data")
    _mkdir(directory)
    custody.make(config)
    write_new(path, text.encode())
    return config


def _mkdir(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make directory {directory}: {error.strerror}") from error
