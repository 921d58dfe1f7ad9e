"""The `promptferry` command against a real delivery server: what it prints, writes and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from tests.client.prompts.recipient import TARGET, VECTORS, assert_refused


def test_what_is_not_there_is_one_line_and_status_1(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    assert_refused(run("fetch", "other", "--out", tmp_path / "got"), "no prompt 'other' is published", 1)
    assert_refused(run("show", "sst2", "--version", 9), "no version 9 of prompt 'sst2' is published", 1)
    delivery.store.set_prompt_state("sst2", 1, "revoked")
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "no prompt 'sst2' is published", 1)


def test_in_json_an_error_is_an_object_with_its_symbol(run, tmp_path: Path) -> None:
    outcome = run("show", "other", "--format", "json")
    assert outcome.json == {"error": "not_found", "message": "no prompt 'other' is published"}
    assert outcome.status == 1


def test_a_server_that_is_down_and_a_wrong_ca_are_told_apart(delivery, run, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    assert_refused(run("list", "--ca", other.ca), "is not signed by the given CA")
    delivery.server.stop(0)
    assert_refused(run("list"), f"no coordinator answers at {delivery.address}: connection refused", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--ca", "absent.pem"], "absent.pem: cannot read the CA: No such file"),
        (["list", "--key", "absent.pub"], "absent.pub: cannot read the publisher's key: No such file"),
        (["list", "--server", "nonsense"], "'nonsense' is not host:port"),
        (["fetch", "A", "--out", "x"], "prompt name 'A' must be"),
        (["fetch", "sst2"], "Missing option '--out'"),
        (["verify", "absent"], "absent: no such directory"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*words), message, 2)


def test_a_key_of_another_kind_is_refused(delivery, run, tmp_path: Path) -> None:
    (tmp_path / "junk.pub").write_text("junk")
    assert_refused(run("list", "--key", tmp_path / "junk.pub"), "not a PEM public key", 2)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key = load_pem_private_key(delivery.paths.key.read_bytes(), None).public_key()
    (tmp_path / "ec.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert_refused(run("list", "--key", tmp_path / "ec.pub"), "not an Ed25519 public key", 2)


@pytest.fixture
def environment(delivery, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PROMPTFERRY_SERVER": delivery.address,
        "PROMPTFERRY_CA": str(delivery.paths.ca),
        "PROMPTFERRY_KEY": str(delivery.paths.publisher_public_key),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


def test_listing_and_showing_prompts_needs_no_pytorch(delivery, environment: dict[str, str]) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    script = (
        "import sys\nfrom client.prompts.command import app\nfrom transfer.terminal import console\n"
        "for words in (['list'], ['show', 'sst2']):\n"
        "    try: console.run(app, words)\n    except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "3.9" in done.stdout


@pytest.mark.slow
def test_the_command_runs_as_a_process(delivery, environment: dict[str, str], tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client.prompts.command", *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    got = run("fetch", "sst2", "--out", str(tmp_path / "got"), "--format", "json")
    assert (got.returncode, set(got.stderr.splitlines()) - {"loading PyTorch …"}) == (0, set())
    assert json.loads(got.stdout)["verified"] is True
    lost = run("show", "other")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert lost.stderr == "error: no prompt 'other' is published\n"
