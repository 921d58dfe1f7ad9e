import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.errors import VerificationError
from transfer.protocol import signing
from transfer.protocol.signing import Envelope, Statement, key_id, sign, statement

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key()
KIND = "application/x-test"
DIGESTS = {"b.txt": hashlib.sha256(b"second").hexdigest(), "a.txt": hashlib.sha256(b"first").hexdigest()}


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_was_signed_comes_back_exactly(payload, kind):
    assert sign(payload, kind, KEY).verify(PUBLIC, kind) == payload


def test_signing_again_gives_the_same_bytes():
    assert sign(b"payload", KIND, KEY) == sign(b"payload", KIND, KEY)


def test_the_signature_is_over_dsses_encoding():
    envelope = sign(b"hello world", "http://example.com/HelloWorld", KEY)
    encoded = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    PUBLIC.verify(envelope.signature, encoded)


@pytest.mark.parametrize("field", ["payload", "signature"])
def test_every_flipped_bit_is_rejected(field):
    envelope = sign(b"a short payload", KIND, KEY)
    content = getattr(envelope, field)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError, match="does not match"):
            replace(envelope, **{field: bytes(flipped)}).verify(PUBLIC, KIND)


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65])
def test_a_signature_of_another_size_is_rejected(signature):
    with pytest.raises(VerificationError, match="does not match"):
        replace(sign(b"payload", KIND, KEY), signature=signature).verify(PUBLIC, KIND)


def test_bytes_signed_as_one_thing_are_never_read_as_another():
    envelope = sign(b"payload", KIND, KEY)
    with pytest.raises(VerificationError, match="holds 'application/x-test', expected 'other'"):
        envelope.verify(PUBLIC, "other")
    with pytest.raises(VerificationError, match="does not match"):
        replace(envelope, payload_type="other").verify(PUBLIC, "other")


def test_moving_bytes_between_type_and_payload_is_rejected():
    envelope = sign(b" 1 x", "kind", KEY)
    with pytest.raises(VerificationError, match="does not match"):
        replace(envelope, payload_type="kind 4", payload=b"x").verify(PUBLIC, "kind 4")


def test_another_key_is_rejected_even_under_our_name():
    envelope = sign(b"payload", KIND, OTHER)
    with pytest.raises(VerificationError, match="signed by key"):
        envelope.verify(PUBLIC, KIND)
    with pytest.raises(VerificationError, match="does not match"):
        replace(envelope, key_id=key_id(PUBLIC)).verify(PUBLIC, KIND)


def test_the_kinds_of_signed_things_differ():
    kinds = [signing.STATEMENT_TYPE, signing.REQUEST_TYPE, signing.REPLY_TYPE]
    assert len(set(kinds)) == 3
    assert signing.PROMPT_PREDICATE != signing.PROXY_PREDICATE


def signed(content) -> Envelope:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    return sign(payload, signing.STATEMENT_TYPE, KEY)


def test_a_statement_binds_files_to_what_is_said_of_them():
    envelope = sign(statement(DIGESTS, "about/v1", {"rounds": 3}), signing.STATEMENT_TYPE, KEY)
    found = Statement.verified(envelope, PUBLIC, "about/v1")
    assert (dict(found.digests), dict(found.predicate)) == (DIGESTS, {"rounds": 3})
    found.check("a.txt", b"first")
    with pytest.raises(VerificationError, match=r"a\.txt: SHA-256 .* differs"):
        found.check("a.txt", b"First")
    with pytest.raises(VerificationError, match=r"b\.txt: SHA-256 .* differs"):
        found.check("b.txt", b"first")
    with pytest.raises(VerificationError, match=r"c\.txt: not named"):
        found.check("c.txt", b"first")


def test_the_order_files_are_named_in_does_not_matter():
    turned = dict(reversed(DIGESTS.items()))
    assert statement(DIGESTS, "about/v1", {"a": 1, "b": 2}) == statement(turned, "about/v1", {"b": 2, "a": 1})


def test_a_statement_about_something_else_is_rejected():
    envelope = sign(statement(DIGESTS, "about/v1", {}), signing.STATEMENT_TYPE, KEY)
    with pytest.raises(VerificationError, match="'about/v1', expected 'about/v2'"):
        Statement.verified(envelope, PUBLIC, "about/v2")


def test_a_statement_is_verified_before_it_is_read():
    envelope = replace(signed({}), payload=b"{")
    with pytest.raises(VerificationError, match="does not match"):
        Statement.verified(envelope, PUBLIC, "about/v1")


WHOLE = json.loads(statement(DIGESTS, "about/v1", {}))


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        [],
        7,
        {},
        *({key: value for key, value in WHOLE.items() if key != missing} for missing in WHOLE),
        WHOLE | {"_type": "https://in-toto.io/Statement/v0.1"},
        WHOLE | {"subject": None},
        WHOLE | {"subject": [7]},
        WHOLE | {"subject": [{"name": "a", "digest": {}}]},
        WHOLE | {"predicate": 7},
    ],
)
def test_a_signed_text_that_is_no_statement_is_rejected(content):
    with pytest.raises(VerificationError) as caught:
        Statement.verified(signed(content), PUBLIC, "about/v1")
    assert "\n" not in str(caught.value)
