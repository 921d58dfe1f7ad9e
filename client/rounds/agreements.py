"""The campaigns that an owner agreed to, in a file that is sealed if keys and ledger are."""

import json
from dataclasses import dataclass
from pathlib import Path

from client.vault.seal import Seal
from client.vault.vault import UNLOCKED, Vault, sealed, unsealed
from transfer.errors import ConfigError, VerificationError
from transfer.files.atomic import replace


@dataclass(frozen=True, slots=True)
class Agreements:
    """The agreements of an owner, by campaign.

    Attributes:
        file: written when the owner first agrees.
        vault: unseals the file; its newest key seals it.
    """

    file: Path
    vault: Vault = UNLOCKED

    def read(self) -> dict[str, str]:
        """Return the hash of what was agreed to, by name of the campaign.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            hashes: dict[str, str] = json.loads(unsealed(self.file.name, self.file.read_bytes(), self.vault))
            return dict(hashes)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, VerificationError) as error:
            raise ConfigError(
                f"{self.file} is not a list of accepted campaigns: delete it; you will be asked again for each one"
            ) from error

    def add(self, campaign: str, agreed: str) -> None:
        """Store the hash of what was agreed to for a campaign; durable on return."""
        self._write(self.read() | {campaign: agreed}, self.vault.newest)

    def reseal(self, seal: Seal) -> None:
        """Put the file, if it exists, under another seal."""
        if self.file.exists():
            self._write(self.read(), seal)

    def _write(self, agreed: dict[str, str], seal: Seal) -> None:
        content = json.dumps(agreed, indent=1, sort_keys=True).encode()
        replace(self.file, sealed(self.file.name, content, seal))
