"""Enrolment: the one-time token of an invitation admits a data owner's keys as a client."""

import logging
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from coordinator.store.clients import token_digest
from coordinator.store.records import Client, utc_now
from coordinator.store.store import Store
from transfer.errors import AuthenticationError, UsageError
from transfer.protocol.signing import TOKEN_BYTES, proof_content

logger = logging.getLogger(__name__)

INVITATION_LIFE = timedelta(days=7)
Register = Callable[[bytes, str], int]
"""Registers a node's public key (PEM) under a client's name with Flower and returns the node's id.

It accepts repeated calls with the same key and name."""


def invite(store: Store, name: str, now: datetime, lifetime: timedelta = INVITATION_LIFE) -> str:
    """Invite a client and return its one-time token; the store keeps only the token's SHA-256.

    Raises:
        UsageError: `name` is not a valid name.
        AlreadyExistsError: the client is enrolled or revoked.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    store.invite(name, token_digest(token), now + lifetime)
    return token


class Enrolment:
    """Enrols clients.

    Args:
        store: holds the clients.
        register: registers a node with Flower.
        fleet_address: host:port of Flower's Fleet API for clients.
        clock: returns the current time with its zone.
    """

    def __init__(
        self, store: Store, register: Register, fleet_address: str, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._store, self._register, self._clock = store, register, clock
        self.fleet_address = fleet_address

    def enrol(self, client: str, token: str, node_key: bytes, signing_key: bytes, proof: bytes) -> Client:
        """Check token and proof, then store the keys and register the node.

        After a crash or a lost reply, the client may enrol again with the same keys and token.

        Args:
            client: name in the invitation.
            token: one-time secret of the invitation.
            node_key: public EC P-384 key of the Flower node, PEM.
            signing_key: public Ed25519 key of releases, 32 raw bytes.
            proof: signature by the signing key over `transfer.protocol.signing.proof_content`.

        Raises:
            UsageError: a key is not of the required kind.
            AuthenticationError: the proof or the invitation is not valid.
            AlreadyExistsError: a key is enrolled under another name.
        """
        _check_node_key(node_key)
        _check_proof(signing_key, proof, proof_content(client, token, node_key))
        enrolled = self._store.enrol(client, token, node_key, signing_key, self._clock())
        node_id = self._register(node_key, client)
        self._store.set_node(client, node_id)
        logger.info("client %s enrolled", client)
        return enrolled


def _check_node_key(node_key: bytes) -> None:
    try:
        key = load_pem_public_key(node_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("node key is not a PEM public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1):
        raise UsageError("node key is not on the curve P-384")


def _check_proof(signing_key: bytes, proof: bytes, content: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(proof, content)
    except ValueError as error:
        raise UsageError("signing key is not 32 raw bytes of an Ed25519 public key") from error
    except InvalidSignature as error:
        raise AuthenticationError("enrolment refused: the proof is not by the signing key sent") from error
