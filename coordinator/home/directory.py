"""A coordinator's directory: settings, keys and certificates, made together."""

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
    """Where the settings file of a new coordinator goes.

    Raises:
        AlreadyExistsError: there is one.
    """
    path = directory / FILE
    if path.exists():
        raise AlreadyExistsError(f"{path} exists already: edit it, or use another directory")
    return path


def make(directory: Path, values: Mapping[tuple[str, str], Any], hosts: Sequence[str]) -> CoordinatorConfig:
    """Make a coordinator directory whose settings are the commented example with `values` by (table, key).

    The server certificate is for `hosts` (names and addresses) beside the loopback ones. The settings file is
    written last: a directory without one is unfinished, and making it again finishes it.

    Raises:
        AlreadyExistsError: there is a settings file; nothing was touched.
        ConfigError: a value is impossible; nothing was touched.
        UsageError: a host is no name or address, or the directory cannot be written.
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
