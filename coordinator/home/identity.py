"""The coordinator's identity: its publisher key and its nonce secret."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.home.pki import PkiPaths, load_publisher, load_secret
from coordinator.home.settings import CoordinatorConfig


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """The keys behind this coordinator's requests.

    Attributes:
        publisher: Ed25519 key that signs requests, proxies and prompts.
        secret: random bytes from which nonces are derived.
    """

    publisher: Ed25519PrivateKey
    secret: bytes


def pki_paths(config: CoordinatorConfig) -> PkiPaths:
    """Return the paths of keys and certificates in the settings."""
    return PkiPaths(**config.pki.model_dump())


def identity(config: CoordinatorConfig) -> Identity:
    """Load the publisher key and the nonce secret.

    Raises:
        ConfigError: one of them is missing, open to others or malformed.
    """
    return Identity(load_publisher(config.pki.publisher_key), load_secret(config.pki.secret))
