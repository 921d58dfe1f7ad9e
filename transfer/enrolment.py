"""What a data owner signs to enrol: proof that it holds the signing key it hands in."""

import hashlib

TOKEN_BYTES = 32
"""Random bytes in an invitation's one-time token."""


def proof_content(client: str, token: str, node_key: bytes) -> bytes:
    """The 32 bytes the new signing key signs: SHA-256(client ‖ token ‖ node key).

    The three cannot be cut elsewhere: tokens have one length, and a key begins with a PEM line.
    """
    return hashlib.sha256(client.encode() + token.encode() + node_key).digest()
