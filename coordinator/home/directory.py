"""A new coordinator directory: settings, keys, certificates and an empty store, made together."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from coordinator.home.settings import FILE, CoordinatorConfig, example
from coordinator.store.database import sqlite_url
from coordinator.store.store import Store
from transfer.errors import AlreadyExistsError, UsageError
from transfer.files.atomic import write_new
from transfer.files.toml import filled, parse


def free(directory: Path) -> Path:
    """Return the path of a new coordinator's settings file.

    Raises:
        AlreadyExistsError: the file exists.
    """
    path = directory / FILE
    if path.exists():
        raise AlreadyExistsError(f"{path} exists already: edit it, or use another directory")
    return path


def make(directory: Path, values: Mapping[tuple[str, str], Any], hosts: Sequence[str]) -> CoordinatorConfig:
    """Make a coordinator directory. Its settings are the commented example with `values` filled in.

    The settings file is written last. A directory without one is unfinished, and a second call finishes it.

    Args:
        directory: the new directory.
        values: settings by (table, key).
        hosts: names and addresses for the server certificate, beside the loopback ones.

    Raises:
        AlreadyExistsError: a settings file exists; nothing was changed.
        ConfigError: a value is not valid; nothing was changed.
        UsageError: a host is neither a name nor an address, or the directory is not writable.
    """
    path = free(directory)
    text = filled(example(), values)
    config = parse(tomllib.loads(text), path, CoordinatorConfig)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.proxies.directory.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make directory {error.filename}: {error.strerror}") from error
    paths = PkiPaths.under(directory)
    if not paths.secret.is_file():
        pki.create(paths, hosts)
    Store.open(sqlite_url((directory / "store.db").resolve())).close()
    write_new(path, text.encode(), 0o644)
    return config
