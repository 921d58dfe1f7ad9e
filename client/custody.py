"""What a client must neither lose nor show: its keys, and the place of its ledger."""

from dataclasses import dataclass

from client import keys
from client.config import ClientConfig
from client.keys import Keys
from client.ledger_place import LedgerPlace


@dataclass(frozen=True, slots=True)
class Custody:
    """Keys of a client, and where its ledger is."""

    keys: Keys
    ledger: LedgerPlace


def load(config: ClientConfig) -> Custody:
    """What `client.directory` made.

    Raises:
        UsageError: a key is missing, open to others, or not a key of its kind.
    """
    own = keys.load(config.keys_directory)
    return Custody(own, LedgerPlace(config.ledger_file, own.signing, config.client.ledger_head))
