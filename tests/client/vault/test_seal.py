"""What is sealed opens at its place alone, with its key and version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.vault.seal import NONE, Seal
from client.vault.vault import Vault
from tests.client.vault.secrets_at_rest import OLD
from transfer.errors import VerificationError

PLACES = st.text("abc/0123456789", min_size=1, max_size=12)


@given(st.binary(max_size=300), PLACES, st.integers(0, 2**31))
def test_what_is_sealed_comes_back_and_is_never_the_same_twice(plain: bytes, place: str, version: int):
    seal = Seal.new(version)
    sealed = seal.seal(place, plain)
    assert seal.unseal(place, sealed) == plain
    assert len(sealed) == len(plain) + 28
    assert seal.seal(place, plain) != sealed
    assert len(plain) < 4 or plain not in sealed


@given(st.binary(min_size=1, max_size=40), PLACES, PLACES)
def test_what_is_sealed_opens_at_its_place_alone_with_its_key_and_version(
    plain: bytes, here: str, there: str
):
    seal = Seal.new(3)
    sealed = seal.seal(here, plain)
    others = [(Seal(4, seal.key), here), (Seal.new(3), here)]
    for other, place in [*others, *([(seal, there)] if there != here else [])]:
        with pytest.raises(VerificationError):
            other.unseal(place, sealed)


def test_every_flipped_bit_and_every_cut_of_what_is_sealed_is_noticed():
    seal = Seal.new(1)
    sealed = seal.seal("chain/1", b"a row")
    flipped = [
        sealed[: bit // 8] + bytes([sealed[bit // 8] ^ 1 << bit % 8]) + sealed[bit // 8 + 1 :]
        for bit in range(8 * len(sealed))
    ]
    for changed in [*flipped, *(sealed[:end] for end in range(len(sealed))), sealed + b"\0"]:
        with pytest.raises(VerificationError, match="chain/1 is not what was sealed there with key 1"):
            seal.unseal("chain/1", changed)


def test_no_seal_changes_nothing_and_shows_no_key():
    assert NONE.unseal("chain/1", NONE.seal("chain/1", b"text")) == b"text"
    seal = Seal.new(1)
    assert repr(Vault((seal,), (OLD,))) == "Vault(seals=(Seal(version=1),))"


def test_a_key_of_another_length_is_no_key():
    with pytest.raises(VerificationError, match="key 1 has 16 bytes, must have 32"):
        Seal(1, bytes(16))
