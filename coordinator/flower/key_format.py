"""A node's public key, in PEM or OpenSSH form."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from transfer.errors import UsageError


def pem(public_key: bytes, name: str) -> bytes:
    """Return the key as PEM.

    Raises:
        UsageError: `name` is empty, or the key is not an EC key on secp384r1 in PEM or OpenSSH form.
    """
    if not name:
        raise UsageError("a node needs a name")
    is_openssh = public_key.startswith(b"ecdsa-sha2-")
    try:
        load = serialization.load_ssh_public_key if is_openssh else serialization.load_pem_public_key
        key = load(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"the public key of {name!r} is neither PEM nor OpenSSH") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError(f"the public key of {name!r} is not an EC key on secp384r1")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
