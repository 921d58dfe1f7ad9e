"""Which coordinator this is, by its keys."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.home.pki import PkiPaths, load_publisher, load_secret
from coordinator.home.settings import CoordinatorConfig


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What makes requests this coordinator's: the publisher's key, and the secret behind the nonces."""

    publisher: Ed25519PrivateKey
    secret: bytes


def pki_paths(config: CoordinatorConfig) -> PkiPaths:
    """Where the settings say the keys are."""
    return PkiPaths(**config.pki.model_dump())


def identity(config: CoordinatorConfig) -> Identity:
    """The publisher's key and the nonce secret.

    Raises:
        ConfigError: one of them is missing, open to others or malformed.
    """
    return Identity(load_publisher(config.pki.publisher_key), load_secret(config.pki.secret))
