"""What is signed about a proxy: a golden statement, everything there and back, nonsense refused."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.errors import VerificationError
from transfer.protocol.signing import PROXY_PREDICATE, statement
from transfer.protocol.statement import ModelV1, ProxyStatement

GOLDEN = Path(__file__).parents[2] / "golden" / "v1" / "proxy.dsse.json"
PAYLOAD = base64.b64decode(json.loads(GOLDEN.read_bytes())["payload"])
CONTENT = json.loads(PAYLOAD)
PREDICATE: dict[str, Any] = CONTENT["predicate"]


def test_what_was_signed_of_a_proxy_is_written_back_byte_for_byte() -> None:
    read = ProxyStatement.from_predicate(PREDICATE)
    digests = {item["name"]: item["digest"]["sha256"] for item in CONTENT["subject"]}
    assert statement(digests, PROXY_PREDICATE, read.to_predicate()) == PAYLOAD
    assert (read.proxy.ref.name, read.layers, read.steps) == ("cut", (0,), 0)


@pytest.mark.parametrize("key", sorted(PREDICATE))
def test_a_key_that_is_missing_or_of_a_wrong_type_is_named(key: str) -> None:
    without = {name: value for name, value in PREDICATE.items() if name != key}
    with pytest.raises(VerificationError, match=f"^signed statement cannot be read: {key} is missing$"):
        ProxyStatement.from_predicate(without)
    for value in ("much", True, {"": 1}, [[]], 10**400):
        with pytest.raises(VerificationError, match=rf"^signed statement cannot be read: {key}[.:][^\n]*$"):
            ProxyStatement.from_predicate({**PREDICATE, key: value})


MODEL = st.builds(ModelV1, name=st.text(), digest=st.text("0123456789abcdef", min_size=64, max_size=64))
MEASURE = st.floats(allow_nan=False)


@settings(deadline=None)
@given(
    st.builds(
        ProxyStatement,
        proxy=MODEL,
        parent=MODEL,
        layers=st.lists(st.integers(0, 99)).map(tuple),
        steps=st.integers(0, 10**6),
        held_out_kl=MEASURE,
        held_out_perplexity=st.none() | MEASURE,
        target_perplexity=st.none() | MEASURE,
    )
)
def test_every_statement_comes_back_from_its_json_as_it_was(stated: ProxyStatement) -> None:
    assert ProxyStatement.from_predicate(json.loads(json.dumps(stated.to_predicate()))) == stated


def test_a_measurement_that_failed_is_still_read() -> None:
    read = ProxyStatement.from_predicate({**PREDICATE, "held_out_kl": math.nan})
    assert math.isnan(read.held_out_kl)
