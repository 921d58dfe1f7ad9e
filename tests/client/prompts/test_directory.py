"""A fetched directory is checked offline: statement, digests, content."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.prompts.directory import STATEMENT_FILE, from_json, to_json
from tests.client.prompts.recipient import assert_refused
from transfer.peft_directory import WEIGHTS_FILE
from transfer.protocol.signing import Envelope


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda out: (out / WEIGHTS_FILE).unlink(),
            "adapter_model.safetensors: missing, but the statement names it",
        ),
        (
            lambda out: (out / "adapter_model.bin").write_bytes(b"x"),
            "adapter_model.bin: not named in the signed",
        ),
        (lambda out: (out / "sub").mkdir(), "sub: not a file of at most"),
        (lambda out: (out / STATEMENT_FILE).unlink(), "cannot read the signed statement: No such file"),
        (lambda out: (out / STATEMENT_FILE).write_text("{}"), "not a DSSE envelope: KeyError"),
        (lambda out: (out / STATEMENT_FILE).write_text("x"), "not a DSSE envelope: JSONDecodeError"),
        (lambda out: (out / STATEMENT_FILE).write_text("[" * 10**6), "not a DSSE envelope: RecursionError"),
        (lambda out: (out / STATEMENT_FILE).write_bytes(b" " * (17 * 2**20)), "larger than 16777216 bytes"),
    ],
)
def test_a_damaged_directory_does_not_verify(
    fetched: Path, run, damage: Callable[[Path], Any], message: str
) -> None:
    damage(fetched)
    assert_refused(run("verify", fetched), re.escape(message))


def test_verify_works_offline(delivery, fetched: Path, run) -> None:
    delivery.server.stop(0)
    outcome = run("verify", fetched, "--max-epsilon", 4, "--format", "json")
    assert (outcome.status, outcome.json["version"], outcome.json["target"]["name"]) == (0, 1, "target")


@given(st.text(), st.binary(), st.text(), st.binary())
def test_an_envelope_survives_its_file(kind: str, payload: bytes, signer: str, signature: bytes) -> None:
    envelope = Envelope(kind, payload, signer, signature)
    assert from_json(to_json(envelope)) == envelope
