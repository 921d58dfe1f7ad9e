"""The data owner's settings: client.toml as a frozen value, and the text that `init` writes."""

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
from transfer.placement.settings import HERE, Placement
from transfer.privacy import Budget, Unit, default_delta

FILE = "client.toml"


class ClientSettings(Settings):
    """The client's name, and the places of what it must not lose."""

    name: str
    directory: Located = Path()
    ledger_head: Located | None = None
    secret: Located | None = None


class DataSettings(Settings):
    """The private text, and a public number for its size. Declaring records or users sets the unit of privacy."""

    path: Located
    declared_records: int | None = Field(default=None, ge=1)
    declared_users: int | None = Field(default=None, ge=1)

    def require_readable(self) -> None:
        """Refuse to continue without the private data.

        Raises:
            DataError: it is no file, or this process may not read it.
        """
        if not self.path.is_file() or not os.access(self.path, os.R_OK):
            raise DataError(f"{self.path}: the private data of [data] path is not a readable file")

    @property
    def unit(self) -> Unit:
        """The unit of privacy."""
        return "record" if self.declared_users is None else "user"

    @property
    def declared_units(self) -> int:
        """The declared number of units.

        Raises:
            UsageError: nothing is declared, or two numbers are.
        """
        declared = [count for count in (self.declared_records, self.declared_users) if count is not None]
        if len(declared) != 1:
            raise UsageError(
                "[data] needs declared_records, or instead declared_users to protect whole users; it has "
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
    """Settings of `run`."""

    poll_s: float = Field(default=0.2, ge=0.01, le=60)
    threads: int = Field(default=0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ClientConfig(Settings):
    """Everything in client.toml, and the paths that follow from it."""

    client: ClientSettings
    data: DataSettings
    policy: PolicySettings
    daemon: DaemonSettings = DaemonSettings()
    placement: Placement = HERE

    def model_post_init(self, _context: object) -> None:
        """Refuse values that are wrong only in combination."""
        checked("client", self.client.name)
        self.limits()

    @property
    def keys_directory(self) -> Path:
        """The private keys."""
        return self.client.directory / "keys"

    @property
    def ledger_file(self) -> Path:
        """The privacy ledger."""
        return self.client.directory / "ledger.db"

    @property
    def vault_file(self) -> Path:
        """The vault that seals keys, ledger and agreements, if they are encrypted."""
        return self.client.directory / "vault.json"

    @property
    def proxies_directory(self) -> Path:
        """One Hugging Face directory per proxy."""
        return self.client.directory / "proxies"

    @property
    def enrolment_file(self) -> Path:
        """The trusted coordinator, once enrolled."""
        return self.client.directory / "enrolment.toml"

    @property
    def consent_file(self) -> Path:
        """The campaigns that the owner agreed to."""
        return self.client.directory / "consents.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the one process that may answer rounds or repair the ledger."""
        return self.client.directory / "daemon.lock"

    def limits(self) -> Policy:
        """Return the policy as the value that judges requests.

        Raises:
            UsageError: a limit is impossible.
        """
        policy, units = self.policy, self.data.declared_units
        delta = default_delta(units) if policy.max_delta is None else policy.max_delta
        return Policy(
            budget=Budget(policy.max_epsilon, delta),
            declared_units=units,
            unit=self.data.unit,
            tasks=policy.tasks,
            proxies=policy.proxies,
            min_noise_multiplier=policy.min_noise_multiplier,
            max_sample_rate=policy.max_sample_rate,
            max_steps=policy.max_steps,
            max_rounds=policy.max_rounds,
            hours=policy.hours,
            min_cohort=policy.min_cohort,
        )


def read(directory: Path) -> ClientConfig:
    """Read the settings of the client in `directory`, with every path resolved.

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
    """Return the commented settings file with its defaults."""
    here = Path(client.__file__).parent
    installed, checkout = here / FILE, here.parent / "deploy" / FILE
    return (installed if installed.is_file() else checkout).read_text(encoding="utf-8")
