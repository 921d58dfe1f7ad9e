"""What a client must neither lose nor disclose: keys, ledger and agreements, and the vault that may seal them."""

from dataclasses import dataclass
from pathlib import Path

from client.home.lock import locked
from client.home.settings import ClientConfig
from client.ledger import reseal as resealing
from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.rounds.agreements import Agreements
from client.vault import keys, vault
from client.vault.keys import Keys
from client.vault.seal import Seal
from client.vault.vault import UNLOCKED, Vault
from transfer import hints
from transfer.errors import UsageError
from transfer.files.atomic import remove_drafts


@dataclass(frozen=True, slots=True)
class Custody:
    """A client's keys, the place of its ledger, and the campaigns it agreed to."""

    keys: Keys
    ledger: LedgerPlace
    agreements: Agreements


def make(config: ClientConfig) -> None:
    """Make the vault (if a secret is set), the keys and the ledger; skip those that exist."""
    secret = config.client.secret
    if secret is not None and not config.vault_file.exists():
        Vault((Seal.new(1),), (vault.read_secret(secret),)).write(config.vault_file)
    if not config.keys_directory.is_dir():
        keys.create(config.keys_directory, _vault(config).newest)
    if not config.ledger_file.is_file():
        Ledger.create(load(config).ledger).close()


def load(config: ClientConfig) -> Custody:
    """Load what `make` made.

    Raises:
        UsageError: a key or the secret is missing, open to others, or malformed; or the secret opens nothing.
        VerificationError: a key is not sealed as it should be.
    """
    if config.client.secret is not None and not config.vault_file.exists():
        raise UsageError(
            f"{config.vault_file} is missing, but [client] secret is set: restore it, or make it with "
            f"{hints.client('encrypt')}"
        )
    return _opened(config, _vault(config))


def reseal(config: ClientConfig, secret: Path | None) -> int:
    """Seal everything with a new key, under the secret in a file or else the one in use; return the key's version.

    Guarantee: if the process is killed at any moment, everything can be read with the secret in use or the new one.
    Running it again completes it.

    Raises:
        UsageError: there is no secret, or none that opens the vault.
        ConfigError: the agreements cannot be read.
        LedgerError: the ledger cannot be trusted.
        UnavailableError: the daemon is running.
    """
    wanted = secret or config.client.secret
    if wanted is None:
        raise UsageError("encrypting needs a secret: name its file with --secret FILE")
    with locked(config.lock_file):
        new = vault.read_secret(wanted)
        old = _vault(config, secret)
        current = _opened(config, old)
        Ledger.open(current.ledger).close()  # change nothing if the ledger cannot be trusted
        current.agreements.read()  # nor if the agreements cannot be read
        seal = Seal.new(old.newest.version + 1)
        # First a vault that opens with both secrets and has all keys: until the last write, any mix can be read.
        Vault((*old.seals, seal), (*old.secrets, new)).write(config.vault_file)
        keys.reseal(config.keys_directory, current.keys, seal)
        current.agreements.reseal(seal)
        resealing.reseal(current.ledger, seal)
        Vault((seal,), (new,)).write(config.vault_file)
        written = config.vault_file, config.ledger_file, config.consent_file, *config.keys_directory.iterdir()
        for path in written:
            remove_drafts(path)
    return seal.version


def _opened(config: ClientConfig, open_vault: Vault) -> Custody:
    own = keys.load(config.keys_directory, open_vault)
    place = LedgerPlace(config.ledger_file, own.signing, config.client.ledger_head, open_vault)
    return Custody(own, place, Agreements(config.consent_file, open_vault))


def _vault(config: ClientConfig, other: Path | None = None) -> Vault:
    """Open the client's vault with the secret in client.toml or with another one."""
    if not config.vault_file.exists():
        return UNLOCKED
    files = [file for file in (config.client.secret, other) if file is not None]
    if not files:
        raise UsageError(
            f"{config.vault_file} seals this client: name the file of its secret in [client] secret"
        )
    return vault.read(config.vault_file, [vault.read_secret(file) for file in files])
