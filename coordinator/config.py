"""The coordinator's settings: coordinator.toml as a frozen value, and the text `init` writes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from transfer.errors import ConfigError
from transfer.settings import Located, Settings, load

FILE = "coordinator.toml"
_SQLITE = "sqlite:///"


class StoreSettings(Settings):
    """Where rows are kept: an SQLAlchemy URL; a relative SQLite file is resolved by `read`."""

    url: str = "sqlite:///store.db"


class FlowerSettings(Settings):
    """Flower's Fleet endpoint."""

    host: str = "127.0.0.1"
    port: int = Field(9191, ge=0, le=65535)
    public_address: str = ""
    database: Located


class DeliverySettings(Settings):
    """The gRPC endpoint for enrolment, proxies and prompts."""

    host: str = "127.0.0.1"
    port: int = Field(9292, ge=0, le=65535)
    public_address: str = ""


class PkiSettings(Settings):
    """Paths of certificates, keys and the nonce secret."""

    ca: Located
    ca_key: Located
    certificate: Located
    key: Located
    publisher_key: Located
    publisher_public_key: Located
    secret: Located


class TargetSettings(Settings):
    """The large model: a directory relative to the settings file, or a name in the local model cache."""

    source: str = Field(min_length=1)
    name: str = ""


class ProxySettings(Settings):
    """Where proxies are made."""

    directory: Located


class ServeSettings(Settings):
    """How `serve` works."""

    threads: int = Field(0, ge=0)
    poll_s: float = Field(0.5, ge=0.05, le=60)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class CoordinatorConfig(Settings):
    """Everything coordinator.toml says."""

    store: StoreSettings
    flower: FlowerSettings
    delivery: DeliverySettings
    pki: PkiSettings
    target: TargetSettings
    proxies: ProxySettings
    serve: ServeSettings = ServeSettings()

    @property
    def target_name(self) -> str:
        """Name the target is known by."""
        return self.target.name or Path(self.target.source).name


def read(directory: Path) -> CoordinatorConfig:
    """Settings of the coordinator in `directory`, every path resolved.

    Raises:
        ConfigError: names file, table and key, and the nearest known key.
    """
    path = directory / FILE
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `promptferry-coordinator init {directory}` makes one")
    config = load(path, CoordinatorConfig)
    store = StoreSettings(url=_located_url(config.store.url, directory))
    target = TargetSettings(source=_located_model(config.target.source, directory), name=config.target_name)
    return config.model_copy(update={"store": store, "target": target})


def example() -> str:
    """The commented settings file with its defaults."""
    here = Path(__file__).parent
    installed, checkout = here / "example.toml", here.parent / "deploy" / FILE
    return (installed if installed.is_file() else checkout).read_text(encoding="utf-8")


def filled(text: str, values: Mapping[tuple[str, str], str | int]) -> str:
    """`text` with the values of some (table, key) pairs replaced; comments and order stay.

    Raises:
        ConfigError: a pair does not stand in the text.
    """
    left, table, lines = dict(values), "", []
    for line in text.splitlines():
        if found := re.fullmatch(r"\[([\w.]+)\]", line):
            table = found[1]
        key = line.partition(" = ")[0]
        if (table, key) in left:
            value = left.pop((table, key))
            line = f"{key} = {_toml(value)}"
        lines.append(line)
    for table, key in left:
        raise ConfigError(f"{FILE}: [{table}] {key} is not in the example file")
    return "\n".join(lines) + "\n"


def _toml(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _located_url(url: str, directory: Path) -> str:
    name = url.removeprefix(_SQLITE)
    return url if name in (url, "", ":memory:") else f"{_SQLITE}{(directory / name).resolve()}"


def _located_model(source: str, directory: Path) -> str:
    path = directory / Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
