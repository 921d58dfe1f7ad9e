"""Enrolment: an invitation becomes the one coordinator this client trusts, pinned in enrolment.toml."""

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
    """What the coordinator's operator hands over, by hand: the token is good for one client, once."""

    called = "invitation"

    client: str
    token: str
    coordinator: str
    ca: str
    publisher_key: str
    expire_time: datetime

    def model_post_init(self, _context: object) -> None:
        """Refuse a key that is no key before anything is sent."""
        _ed25519(self.publisher_key)


class Enrolment(Settings):
    """The coordinator of this client.

    Attributes:
        client: our name there.
        coordinator: host:port of enrolment, proxies and prompts (gRPC).
        fleet: host:port of rounds (Flower).
        ca: PEM of the only authority that may have signed its certificate.
        publisher_key: PEM of the only key whose requests and proxies are believed.
    """

    called = "enrolment"

    client: str
    coordinator: str
    fleet: str
    ca: str
    publisher_key: str

    def model_post_init(self, _context: object) -> None:
        """Refuse a key that is no key."""
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
        """Connection to the coordinator, to be used as a context."""
        return Remote(self.coordinator, self.ca_pem)

    def fetch(self, proxy: str, directory: Path) -> None:
        """Bring a proxy to `directory`, not there yet, believing only what the pinned key signed."""
        logger.info("fetching proxy %s from %s", proxy, self.coordinator)
        with self.remote() as remote:
            fetch_proxy(remote, proxy, self.publisher, directory)


def read(config: ClientConfig) -> Enrolment:
    """The enrolment of a client.

    Raises:
        ConfigError: there is none yet, or it was damaged.
    """
    path = config.enrolment_file
    if not path.is_file():
        raise ConfigError(f"{path}: this client is not enrolled; run {hints.client('enrol INVITATION')}")
    return load(path, Enrolment)


def enrol(config: ClientConfig, invitation_file: Path) -> Enrolment:
    """Register this client's public keys with the coordinator of an invitation, and pin that coordinator.

    Enrolling again with the same invitation changes nothing.

    Raises:
        ConfigError: the invitation is malformed.
        UsageError: the invitation is for another client.
        AlreadyExistsError: another coordinator is pinned.
        AuthenticationError: the token is unknown, used or expired.
        UnavailableError: nobody answers there.
        VerificationError: whoever answers shows a certificate of another authority.
    """
    invitation = load(invitation_file, Invitation)
    _require_ours(config, invitation, invitation_file)
    own = custody.load(config).keys
    try:
        with Remote(invitation.coordinator, invitation.ca.encode()) as remote:
            fleet = remote.enrol(invitation.client, invitation.token, own)
    except AuthenticationError as error:
        late = invitation.expire_time < datetime.now(UTC)
        when = f" (it expired at {invitation.expire_time:%Y-%m-%d %H:%M} UTC)" if late else ""
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
            f"{pinned} pins another coordinator: use another directory, or remove the file to change over"
        )


def _ed25519(pem: str) -> Ed25519PublicKey:
    try:
        return publisher_key.parsed(pem.encode())
    except ValueError as error:
        raise ConfigError(f"publisher_key is {error}") from error
