"""A node's public key is an EC key on secp384r1, whichever form it is given in."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.coordinator.flower.flowers import public
from transfer.errors import (
    UsageError,
)


@pytest.mark.parametrize("key", [b"", b"ecdsa-sha2-nistp384 AAAA", b"-----BEGIN PUBLIC KEY-----"])
def test_what_is_no_key_is_not_registered(federation, key):
    with pytest.raises(UsageError, match="neither PEM nor OpenSSH"):
        federation.register(key, "nobody")


def test_a_key_on_another_curve_is_not_registered(federation):
    with pytest.raises(UsageError, match="secp384r1"):
        federation.register(public(ec.generate_private_key(ec.SECP256R1())), "nobody")
