import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer.protocol.messages import RELEASE, REQUEST, WORDS
from transfer.errors import VerificationError
from transfer.protocol import round_wire, wire
from transfer.protocol.signing import Envelope

POSITIVE = st.floats(1e-6, 1e6)


@settings(deadline=None, max_examples=30)
@given(st.builds(Envelope, WORDS, st.binary(), WORDS, st.binary()))
def test_an_envelope_survives_the_wire_exactly(envelope):
    assert wire.envelope_from_bytes(wire.envelope_to_bytes(envelope)) == envelope


def mutated(good, source):
    data = bytearray(good)
    for _ in range(source.randint(1, 3)):
        data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data[: source.randrange(len(data))] if source.random() < 0.2 else data)


@pytest.mark.parametrize(
    ("good", "read"),
    [
        (round_wire.request_to_bytes(REQUEST), round_wire.request_from_bytes),
        (round_wire.reply_to_bytes(RELEASE), round_wire.reply_from_bytes),
        (wire.envelope_to_bytes(Envelope("kind", b"payload", "key", b"s" * 64)), wire.envelope_from_bytes),
    ],
)
def test_mutated_bytes_give_a_value_or_a_verification_error_and_nothing_else(good, read):
    source, refused = random.Random(0), 0
    for _ in range(2000):
        try:
            read(mutated(good, source))
        except VerificationError:
            refused += 1
    assert refused > 300


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_in_our_own_words(data):
    for read in (round_wire.request_from_bytes, round_wire.reply_from_bytes):
        with pytest.raises(VerificationError):
            read(data)
