"""Enrolment: an invitation names the one coordinator that this client trusts, pinned in enrolment.toml."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.home import custody
from client.home.settings import ClientConfig
from client.remote import publisher_key
from client.remote.coordinator import Remote
from client.remote.proxy_fetch import fetch_proxy
from transfer import hints
from transfer.errors import AlreadyExistsError, AuthenticationError, ConfigError, UsageError
from transfer.files.atomic import replace
from transfer.files.toml import Settings, load

logger = logging.getLogger(__name__)


class Invitation(Settings):
    """What the coordinator's operator gives a data owner; its token admits one client, once."""

    called = "invitation"

    client: str
    token: str
    coordinator: str
    ca: str
    publisher_key: str
    expire_time: datetime

    def model_post_init(self, _context: object) -> None:
        """Refuse a malformed key before anything is sent."""
        _ed25519(self.publisher_key)


class Enrolment(Settings):
    """The coordinator of this client.

    Attributes:
        client: this client's name there.
        coordinator: host:port of enrolment, proxies and prompts (gRPC).
        fleet: host:port of rounds (Flower).
        ca: PEM of the only authority that may sign its certificate.
        publisher_key: PEM of the only key whose requests and proxies are trusted.
    """

    called = "enrolment"

    client: str
    coordinator: str
    fleet: str
    ca: str
    publisher_key: str

    def model_post_init(self, _context: object) -> None:
        """Refuse a malformed key."""
        _ed25519(self.publisher_key)

    @property
    def publisher(self) -> Ed25519PublicKey:
        """The pinned key."""
        return _ed25519(self.publisher_key)

    @property
    def ca_pem(self) -> bytes:
        """The pinned authority as bytes."""
        return self.ca.encode()

    def remote(self) -> Remote:
        """Connect to the coordinator; use the result as a context."""
        return Remote(self.coordinator, self.ca_pem)

    def fetch(self, proxy: str, directory: Path) -> None:
        """Fetch a proxy to a new `directory`, trusting only what the pinned key signed."""
        logger.info("fetching proxy %s from %s", proxy, self.coordinator)
        with self.remote() as remote:
            fetch_proxy(remote, proxy, self.publisher, directory)


def read(config: ClientConfig) -> Enrolment:
    """Read the enrolment of a client.

    Raises:
        ConfigError: the client is not enrolled, or the file is damaged.
    """
    path = config.enrolment_file
    if not path.is_file():
        raise ConfigError(f"{path}: this client is not enrolled; run {hints.client('enrol INVITATION')}")
    return load(path, Enrolment)


def enrol(config: ClientConfig, invitation_file: Path) -> Enrolment:
    """Register this client's public keys with the coordinator of an invitation, and pin that coordinator.

    A second enrolment with the same invitation changes nothing.

    Raises:
        ConfigError: the invitation is malformed.
        UsageError: the invitation is for another client.
        AlreadyExistsError: another coordinator is pinned.
        AuthenticationError: the token is unknown, used or expired.
        UnavailableError: nothing answers there.
        VerificationError: the server's certificate is of another authority.
    """
    invitation = load(invitation_file, Invitation)
    _require_ours(config, invitation, invitation_file)
    own = custody.load(config).keys
    try:
        with Remote(invitation.coordinator, invitation.ca.encode()) as remote:
            fleet = remote.enrol(invitation.client, invitation.token, own)
    except AuthenticationError as error:
        is_late = invitation.expire_time < datetime.now(UTC)
        when = f" (it expired at {invitation.expire_time:%Y-%m-%d %H:%M} UTC)" if is_late else ""
        raise AuthenticationError(f"{invitation_file}: {error}{when}") from error
    enrolment = Enrolment(
        client=invitation.client,
        coordinator=invitation.coordinator,
        fleet=fleet,
        ca=invitation.ca,
        publisher_key=invitation.publisher_key,
    )
    replace(config.enrolment_file, tomli_w.dumps(enrolment.model_dump()).encode())
    return enrolment


def _require_ours(config: ClientConfig, invitation: Invitation, path: Path) -> None:
    if invitation.client != config.client.name:
        raise UsageError(f"{path} invites {invitation.client!r}, this client is {config.client.name!r}")
    pinned = config.enrolment_file
    if pinned.is_file() and load(pinned, Enrolment).publisher_key != invitation.publisher_key:
        raise AlreadyExistsError(
            f"{pinned} pins another coordinator: use another directory, or delete the file to change coordinators"
        )


def _ed25519(pem: str) -> Ed25519PublicKey:
    try:
        return publisher_key.parsed(pem.encode())
    except ValueError as error:
        raise ConfigError(f"publisher_key is {error}") from error
