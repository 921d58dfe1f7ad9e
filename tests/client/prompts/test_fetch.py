"""A prompt is fetched whole and verified, or nothing is written."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.prompts import directory as artifact
from client.prompts.directory import STATEMENT_FILE, from_json, to_json
from client.remote import publisher_key
from tests.client.prompts.recipient import TARGET, VECTORS, assert_refused, seen
from transfer.errors import VerificationError
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE
from transfer.protocol.signing import Envelope


def test_a_fetched_prompt_is_a_peft_directory_with_its_statement(delivery, run, tmp_path: Path) -> None:
    version = delivery.publish("sst2", TARGET, VECTORS)
    outcome = run("fetch", "sst2", "--out", tmp_path / "got", "--format", "json")

    assert outcome.status == 0, outcome
    assert (outcome.json["name"], outcome.json["version"], outcome.json["verified"]) == ("sst2", 1, True)
    assert {path.name for path in (tmp_path / "got").iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, STATEMENT_FILE}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "got" / name).read_bytes() == delivery.store.prompt_file("sst2", 1, name)
    assert artifact.envelope(tmp_path / "got") == version.statement
    assert run("verify", tmp_path / "got").status == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".got")]


def test_the_same_version_again_is_welcome_and_another_is_not(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    out = tmp_path / "got"
    assert run("fetch", "sst2", "--out", out).status == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run("fetch", "sst2", "--out", out).status == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    delivery.publish("sst2", TARGET, VECTORS * 2)
    assert_refused(run("fetch", "sst2", "--out", out), "already has version 1 of 'sst2'", 1)
    (tmp_path / "mine").mkdir()
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "mine"), "is no fetched prompt", 1)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_directory_that_changed_since_is_not_taken_for_the_same(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    out = tmp_path / "got"
    run("fetch", "sst2", "--out", out)
    (out / CONFIG_FILE).write_text("{}")
    assert_refused(run("fetch", "sst2", "--out", out), "adapter_config.json: SHA-256")


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_tampered_with_on_the_server_is_never_written(
    delivery, run, tmp_path: Path, name: str
) -> None:
    def flip(files: dict[str, bytes]) -> None:
        files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]

    delivery.publish("sst2", TARGET, VECTORS, tamper=flip)
    before = set(tmp_path.iterdir())
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "not the ones in the signed statement")
    assert set(tmp_path.iterdir()) == before
    assert seen(tmp_path) is None


def tampered(envelope: Envelope, at: int) -> bytes:
    """The envelope as JSON with one bit of payload or signature flipped."""
    payload, signature = bytearray(envelope.payload), bytearray(envelope.signature)
    part = payload if at < len(payload) else signature
    part[at % len(payload) % len(part)] ^= 1 << at % 8
    return to_json(Envelope(envelope.payload_type, bytes(payload), envelope.key_id, bytes(signature)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_flipped_bit_of_a_fetched_prompt_is_found(fetched: Path, data: st.DataObject) -> None:
    key = publisher_key.load(fetched.parent / "publisher.pub")
    original = {path.name: path.read_bytes() for path in fetched.iterdir()}
    name = data.draw(st.sampled_from(sorted(original)))
    if name == STATEMENT_FILE:
        envelope = from_json(original[name])
        changed = tampered(envelope, data.draw(st.integers(0, len(envelope.payload) + 63)))
    else:
        at = data.draw(st.integers(0, len(original[name]) - 1))
        changed = original[name][:at] + bytes([original[name][at] ^ 1 << data.draw(st.integers(0, 7))])
        changed += original[name][at + 1 :]
    (fetched / name).write_bytes(changed)
    try:
        with pytest.raises(VerificationError):
            artifact.verified(fetched, key)
    finally:
        (fetched / name).write_bytes(original[name])
    artifact.verified(fetched, key)


def test_a_limit_is_compared_with_the_worst_client(delivery, run, tmp_path: Path) -> None:
    def worse(told: dict[str, Any]) -> None:
        told["privacy"]["clients"][1]["epsilon"] = 7.5

    delivery.publish("sst2", TARGET, VECTORS, forge=worse)
    refused = run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 7)
    assert_refused(refused, r"the prompt claims ε 7\.5, accepted is at most 7")
    assert not (tmp_path / "got").exists()
    assert seen(tmp_path) is None
    assert (
        run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 7.5, "--max-delta", 1e-6).status == 0
    )
    assert_refused(
        run("verify", tmp_path / "got", "--max-delta", 1e-7), "claims δ 1e-06, accepted is at most 1e-07"
    )


@pytest.mark.parametrize("value", ["inf", "nan", -1, None, "much"])
def test_no_privacy_is_more_than_any_limit_and_nonsense_is_refused(
    delivery, run, tmp_path: Path, value: object
) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["privacy"].update(epsilon=value))
    outcome = run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 1e9)
    assert_refused(outcome, "claims ε inf" if value == "inf" else "signed statement cannot be read")
    if value == "inf":
        assert run("fetch", "sst2", "--out", tmp_path / "got", "--format", "json").json["epsilon"] == "inf"


def test_a_prompt_of_another_publisher_is_refused(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS, key=Ed25519PrivateKey.generate())
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "signed by key")
    assert_refused(run("show", "sst2"), "signed by key")
    assert not (tmp_path / "got").exists()
