"""The coordinator's settings: coordinator.toml as a frozen value, and the text `init` writes."""

import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field

import coordinator
from transfer.errors import ConfigError
from transfer.files.toml import Located, Settings, at_home, load

FILE = "coordinator.toml"


class StoreSettings(Settings):
    """Where rows are kept: an SQLAlchemy URL; a relative SQLite file is resolved by `read`."""

    url: str = "sqlite:///store.db"


class EndpointSettings(Settings):
    """Where a server listens, and where clients are told to find it."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    public_address: str = ""

    def address(self, port: int) -> str:
        """host:port to give to clients; `port` is the one really listened on.

        Raises:
            ConfigError: the server listens on every address or any port, and no public address is set.
        """
        if self.public_address:
            return self.public_address
        if self.host in ("0.0.0.0", "::", "") or port == 0:  # noqa: S104 -- recognised, not bound
            raise ConfigError(
                f"{FILE}: {self.host}:{port} cannot be reached from elsewhere; set public_address beside it"
            )
        return f"{self.host}:{port}"


class FlowerSettings(EndpointSettings):
    """Flower's Fleet endpoint."""

    port: int = Field(default=9191, ge=0, le=65535)
    database: Located


class DeliverySettings(EndpointSettings):
    """The gRPC endpoint for enrolment, proxies and prompts."""

    port: int = Field(default=9292, ge=0, le=65535)


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
    """The large model: a directory, or a name in the local model cache, and what it is known by."""

    source: str = Field(min_length=1)
    name: str = ""


class ProxySettings(Settings):
    """Where proxies are made."""

    directory: Located


class ServeSettings(Settings):
    """How `serve` works."""

    threads: int = Field(default=0, ge=0)
    poll_s: float = Field(default=0.5, ge=0.05, le=60)
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


def read(directory: Path) -> CoordinatorConfig:
    """Settings of the coordinator in `directory`, every path resolved.

    Raises:
        ConfigError: names file, table and key, and the nearest known key.
    """
    path = directory / FILE
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; `promptferry-coordinator init {shlex.quote(str(directory))}` makes one"
        )
    config = load(path, CoordinatorConfig)
    store = StoreSettings(url=_located_url(config.store.url, directory))
    return config.model_copy(update={"store": store, "target": located(config.target, directory)})


def located(given: TargetSettings, directory: Path) -> TargetSettings:
    """The same target with its path resolved against `directory` and its name filled in.

    A directory is known by its last part; a hub name by itself, so that users can load it by that name.
    """
    path = directory / at_home(Path(given.source))
    if not path.exists():
        return TargetSettings(source=given.source, name=given.name or given.source)
    return TargetSettings(source=str(path.resolve()), name=given.name or path.resolve().name)


def chosen(source: str, default: TargetSettings) -> TargetSettings:
    """The target named on a command line or in a plan, or the coordinator's own for ""."""
    return located(TargetSettings(source=source), Path()) if source else default


def example() -> str:
    """The commented settings file with its defaults."""
    here = Path(coordinator.__file__).parent
    installed, checkout = here / FILE, here.parent / "deploy" / FILE
    return (installed if installed.is_file() else checkout).read_text(encoding="utf-8")


def _located_url(url: str, directory: Path) -> str:
    """The URL with the path of an SQLite file resolved, whose ?, # and % are written %3F, %23 and %25 in a URL."""
    from sqlalchemy import make_url  # help and usage errors do without
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return url  # opening the store says what is wrong
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    path = (directory / str(parsed.database)).resolve()
    return parsed.set(database=str(path)).render_as_string(hide_password=False)
