"""Exact bytes with a signature: verified first, parsed afterwards, never re-encoded.

An `Envelope` is DSSE (https://github.com/secure-systems-lab/dsse) with one Ed25519 signature. The signature covers
the pre-authentication encoding of payload type and payload, so bytes signed as one type cannot be read as another.
Statements about files use in-toto's layout (https://in-toto.io/Statement/v1). The coordinator signs them:
`coordinator.publication.publish` those about prompts, `coordinator.publication.proxies` those about proxies.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from transfer.errors import VerificationError

STATEMENT_TYPE = "application/vnd.in-toto+json"
STATEMENT_SCHEMA = "https://in-toto.io/Statement/v1"
REQUEST_TYPE = "application/vnd.promptferry.round-request.v1+protobuf"
REPLY_TYPE = "application/vnd.promptferry.round-reply.v1+protobuf"
PROMPT_PREDICATE = "https://promptferry.dev/prompt/v1"
PROXY_PREDICATE = "https://promptferry.dev/proxy/v1"
TOKEN_BYTES = 32
"""Number of random bytes in an invitation's one-time token."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Payload type, payload bytes, the id of the signing key, and its 64-byte signature."""

    payload_type: str
    payload: bytes
    key_id: str
    signature: bytes

    def verify(self, key: Ed25519PublicKey, payload_type: str) -> bytes:
        """Return the payload if `key` signed it as `payload_type`.

        Raises:
            VerificationError: the envelope has another type or another key, or the signature does not match.
        """
        if self.payload_type != payload_type:
            raise VerificationError(f"envelope holds {self.payload_type!r}, expected {payload_type!r}")
        if self.key_id != key_id(key):
            raise VerificationError(f"signed by key {self.key_id[:16]}…, expected {key_id(key)[:16]}…")
        try:
            key.verify(self.signature, _encoding(payload_type, self.payload))
        except InvalidSignature:
            raise VerificationError(
                f"signature by key {self.key_id[:16]}… does not match the content"
            ) from None
        return self.payload


def sign(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> Envelope:
    """Sign `payload` with `key` and return the envelope."""
    return Envelope(
        payload_type, payload, key_id(key.public_key()), key.sign(_encoding(payload_type, payload))
    )


def key_id(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the 32 raw bytes of a public key, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE v1 pre-authentication encoding; its lengths make the concatenation unambiguous."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def statement(digests: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return the bytes of an in-toto statement that binds SHA-256 `digests` by file name to a `predicate`."""
    content = {
        "_type": STATEMENT_SCHEMA,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return json.dumps(content, sort_keys=True, indent=1).encode()


@dataclass(frozen=True, slots=True)
class Statement:
    """A verified statement: SHA-256 by file name, and the content about these files."""

    digests: Mapping[str, str]
    predicate: Mapping[str, Any]

    @staticmethod
    def verified(envelope: Envelope, key: Ed25519PublicKey, predicate_type: str) -> "Statement":
        """Verify the envelope, then parse its payload.

        Raises:
            VerificationError: the signature does not match, or the signed text is not a statement of this type.
        """
        payload = envelope.verify(key, STATEMENT_TYPE)
        try:
            content = json.loads(payload)
            if content["_type"] != STATEMENT_SCHEMA:
                raise VerificationError(f"signed text is {content['_type']!r}, expected {STATEMENT_SCHEMA!r}")
            if content["predicateType"] != predicate_type:
                raise VerificationError(
                    f"statement is {content['predicateType']!r}, expected {predicate_type!r}"
                )
            digests = {str(item["name"]): str(item["digest"]["sha256"]) for item in content["subject"]}
            return Statement(digests, dict(content["predicate"]))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise VerificationError(f"signed statement cannot be read: {error!r}") from error

    def check(self, name: str, content: bytes) -> None:
        """Compare the content of the file `name` with the signed digest.

        Raises:
            VerificationError: the file is not in the statement, or its digest differs.
        """
        digest = hashlib.sha256(content).hexdigest()
        if name not in self.digests:
            raise VerificationError(f"{name}: not named in the signed statement")
        if digest != self.digests[name]:
            raise VerificationError(
                f"{name}: SHA-256 {digest[:16]}… differs from the signed {self.digests[name][:16]}…"
            )


def proof_content(client: str, token: str, node_key: bytes) -> bytes:
    """Return the 32 bytes a client signs to prove that it has its signing key: SHA-256(client ‖ token ‖ node key).

    The concatenation is unambiguous: all tokens have one length, and a key begins with a PEM line.
    """
    return hashlib.sha256(client.encode() + token.encode() + node_key).digest()
