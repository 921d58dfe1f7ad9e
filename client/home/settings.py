"""The data owner's settings: client.toml as a frozen value, and the text `init` writes."""

import os
import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field

import client
from client.rounds.policy import Policy
from transfer.errors import ConfigError, DataError, UsageError
from transfer.files.toml import Located, Settings, load
from transfer.names import checked
from transfer.privacy import Budget, Unit, default_delta

FILE = "client.toml"


class ClientSettings(Settings):
    """Who this client is, and where it keeps what it must not lose."""

    name: str
    directory: Located = Path()
    ledger_head: Located | None = None
    secret: Located | None = None


class DataSettings(Settings):
    """The private text, and the public number that stands for its size: what is declared is the unit of privacy."""

    path: Located
    declared_records: int | None = Field(default=None, ge=1)
    declared_users: int | None = Field(default=None, ge=1)

    def require_readable(self) -> None:
        """Return if the private data is there.

        Raises:
            DataError: it is no file, or not ours to read.
        """
        if not self.path.is_file() or not os.access(self.path, os.R_OK):
            raise DataError(f"{self.path}: the private data of [data] path is not a readable file")

    @property
    def unit(self) -> Unit:
        """What is protected as one."""
        return "record" if self.declared_users is None else "user"

    @property
    def declared_units(self) -> int:
        """How many of it there are, as declared.

        Raises:
            UsageError: nothing is declared, or two numbers are.
        """
        declared = [count for count in (self.declared_records, self.declared_users) if count is not None]
        if len(declared) != 1:
            raise UsageError(
                "[data] needs declared_records, or in its place declared_users to protect whole users; it has "
                + ("both" if declared else "neither")
            )
        return declared[0]


class PolicySettings(Settings):
    """Limits on what a coordinator may ask; see `client.rounds.policy.Policy`."""

    max_epsilon: float = Field(gt=0)
    max_delta: float | None = None
    tasks: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    min_noise_multiplier: float = 0.0
    max_sample_rate: float = 1.0
    max_steps: int | None = None
    max_rounds: int | None = None
    hours: tuple[int, int] | None = None
    min_cohort: int = 3


class DaemonSettings(Settings):
    """How `run` works."""

    poll_s: float = Field(default=0.2, ge=0.01, le=60)
    threads: int = Field(default=0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ClientConfig(Settings):
    """Everything client.toml says, and the paths that follow from it."""

    client: ClientSettings
    data: DataSettings
    policy: PolicySettings
    daemon: DaemonSettings = DaemonSettings()

    def model_post_init(self, _context: object) -> None:
        """Refuse what no single key shows to be wrong."""
        checked("client", self.client.name)
        self.limits()

    @property
    def keys_directory(self) -> Path:
        """Private keys."""
        return self.client.directory / "keys"

    @property
    def ledger_file(self) -> Path:
        """The privacy ledger."""
        return self.client.directory / "ledger.db"

    @property
    def vault_file(self) -> Path:
        """The keys that keys, ledger and agreements are sealed with, if they are."""
        return self.client.directory / "vault.json"

    @property
    def proxies_directory(self) -> Path:
        """One Hugging Face directory a proxy."""
        return self.client.directory / "proxies"

    @property
    def enrolment_file(self) -> Path:
        """The coordinator that is trusted, once enrolled."""
        return self.client.directory / "enrolment.toml"

    @property
    def consent_file(self) -> Path:
        """Campaigns the owner agreed to when asked."""
        return self.client.directory / "consents.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one process that may answer rounds or mend the ledger."""
        return self.client.directory / "daemon.lock"

    def limits(self) -> Policy:
        """The policy as the value that judges requests.

        Raises:
            UsageError: a limit is impossible.
        """
        said, units = self.policy, self.data.declared_units
        delta = default_delta(units) if said.max_delta is None else said.max_delta
        return Policy(
            budget=Budget(said.max_epsilon, delta),
            declared_units=units,
            unit=self.data.unit,
            tasks=said.tasks,
            proxies=said.proxies,
            min_noise_multiplier=said.min_noise_multiplier,
            max_sample_rate=said.max_sample_rate,
            max_steps=said.max_steps,
            max_rounds=said.max_rounds,
            hours=said.hours,
            min_cohort=said.min_cohort,
        )


def read(directory: Path) -> ClientConfig:
    """Settings of the client in `directory`, every path resolved.

    Raises:
        ConfigError: names file, table and key, and the nearest known key.
    """
    path = directory / FILE
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; `promptferry-client init {shlex.quote(str(directory))}` makes one"
        )
    return load(path, ClientConfig)


def example() -> str:
    """The commented settings file with its defaults."""
    here = Path(client.__file__).parent
    installed, checkout = here / FILE, here.parent / "deploy" / FILE
    return (installed if installed.is_file() else checkout).read_text(encoding="utf-8")
