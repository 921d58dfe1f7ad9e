"""The campaigns an owner agreed to, in a file that is sealed where keys and ledger are."""

import json
from dataclasses import dataclass
from pathlib import Path

from client.vault.seal import Seal
from client.vault.vault import UNLOCKED, Vault, sealed, unsealed
from transfer.errors import ConfigError, VerificationError
from transfer.files.atomic import replace


@dataclass(frozen=True, slots=True)
class Agreements:
    """What was agreed to, by campaign.

    Attributes:
        file: made with the first campaign.
        vault: unseals the file; its newest key seals it.
    """

    file: Path
    vault: Vault = UNLOCKED

    def read(self) -> dict[str, str]:
        """Hash of what was agreed to, by name of the campaign.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            found: dict[str, str] = json.loads(unsealed(self.file.name, self.file.read_bytes(), self.vault))
            return dict(found)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, VerificationError) as error:
            raise ConfigError(f"{self.file}: no list of campaigns: remove it, and be asked again") from error

    def add(self, campaign: str, agreed: str) -> None:
        """Remembers a campaign; durable on return."""
        self._write(self.read() | {campaign: agreed}, self.vault.newest)

    def reseal(self, seal: Seal) -> None:
        """Replaces the file, if there is one, by the same under another seal."""
        if self.file.exists():
            self._write(self.read(), seal)

    def _write(self, agreed: dict[str, str], seal: Seal) -> None:
        content = json.dumps(agreed, indent=1, sort_keys=True).encode()
        replace(self.file, sealed(self.file.name, content, seal))
