"""What tests of this room share."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def public(
    key: ec.EllipticCurvePrivateKey, encoding: str = "PEM", form: str = "SubjectPublicKeyInfo"
) -> bytes:
    return key.public_key().public_bytes(
        getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form)
    )
