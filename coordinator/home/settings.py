"""The coordinator's settings: coordinator.toml as a frozen value, and the text that `init` writes."""

import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field

import coordinator
from transfer.errors import ConfigError
from transfer.files.toml import Located, Settings, at_home, load
from transfer.placement.settings import HERE, Placement

FILE = "coordinator.toml"


class StoreSettings(Settings):
    """The database: an SQLAlchemy URL; `read` resolves the path of a relative SQLite file."""

    url: str = "sqlite:///store.db"


class EndpointSettings(Settings):
    """An endpoint: the address to listen on, and the public address for clients."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    public_address: str = ""

    def address(self, port: int) -> str:
        """Return host:port for clients; `port` is the port that the server listens on.

        Raises:
            ConfigError: the server listens on every address or on any port, and `public_address` is empty.
        """
        if self.public_address:
            return self.public_address
        if self.host in ("0.0.0.0", "::", "") or port == 0:  # noqa: S104 -- recognised, not bound
            raise ConfigError(
                f"{FILE}: clients cannot reach {self.host}:{port}; set public_address in the same table"
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
    """The target: a directory or a name in the local model cache, its name in statements, and where it is."""

    source: str = Field(min_length=1)
    name: str = ""
    placement: Placement = HERE


class ProxySettings(Settings):
    """The directory of proxies."""

    directory: Located


class ServeSettings(Settings):
    """Settings of `serve`."""

    threads: int = Field(default=0, ge=0)
    poll_s: float = Field(default=0.5, ge=0.05, le=60)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class CoordinatorConfig(Settings):
    """All settings of coordinator.toml."""

    store: StoreSettings
    flower: FlowerSettings
    delivery: DeliverySettings
    pki: PkiSettings
    target: TargetSettings
    proxies: ProxySettings
    serve: ServeSettings = ServeSettings()


def read(directory: Path) -> CoordinatorConfig:
    """Read the settings of the coordinator in `directory`, with every path resolved.

    Raises:
        ConfigError: the settings are not valid; the message names file, table and key, and the nearest known key.
    """
    path = directory / FILE
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; `promptferry-coordinator init {shlex.quote(str(directory))}` makes one"
        )
    config = load(path, CoordinatorConfig)
    store = StoreSettings(url=_located_url(config.store.url, directory))
    return config.model_copy(update={"store": store, "target": located(config.target, directory)})


def located(target: TargetSettings, directory: Path) -> TargetSettings:
    """Return the target with its path resolved against `directory` and its name filled in.

    A directory's default name is its last part. A hub name is its own name, so that recipients can load it by it.
    """
    path = directory / at_home(Path(target.source))
    if not path.exists():
        return target.model_copy(update={"name": target.name or target.source})
    return target.model_copy(
        update={"source": str(path.resolve()), "name": target.name or path.resolve().name}
    )


def chosen(source: str, default: TargetSettings) -> TargetSettings:
    """Return the target that a command line or a plan names, placed as `default`, or `default` for ""."""
    return located(TargetSettings(source=source, placement=default.placement), Path()) if source else default


def example() -> str:
    """Return the commented settings file with its defaults."""
    here = Path(coordinator.__file__).parent
    installed, checkout = here / FILE, here.parent / "deploy" / FILE
    return (installed if installed.is_file() else checkout).read_text(encoding="utf-8")


def _located_url(url: str, directory: Path) -> str:
    """Return the URL with the path of an SQLite file resolved; a URL writes ?, # and % as %3F, %23 and %25."""
    from sqlalchemy import make_url  # slow, and not needed for help and usage errors
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return url  # opening the store reports the error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    path = (directory / str(parsed.database)).resolve()
    return parsed.set(database=str(path)).render_as_string(hide_password=False)
