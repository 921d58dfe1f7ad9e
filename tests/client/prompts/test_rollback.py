"""The highest version seen is remembered: an old one is never the latest again."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.prompts.rollback import SeenVersions
from coordinator.home import pki
from tests.client.prompts.recipient import TARGET, VECTORS, assert_refused, seen
from transfer.errors import VerificationError
from transfer.peft_directory import CONFIG_FILE
from transfer.protocol.signing import key_id


def test_an_older_latest_is_refused_and_an_explicit_version_is_warned_about(
    delivery, run, tmp_path: Path
) -> None:
    for factor in (1, 2):
        delivery.publish("sst2", TARGET, VECTORS * factor)
    assert run("fetch", "sst2", "--out", tmp_path / "two").status == 0
    assert seen(tmp_path) == {
        key_id(pki.load_publisher(delivery.paths.publisher_key).public_key()): {"sst2": 2}
    }
    delivery.store.set_prompt_state("sst2", 2, "revoked")

    refused = run("fetch", "sst2", "--out", tmp_path / "one")
    assert_refused(refused, "version 1 is offered as the latest, but 2 was seen before; if .* --version 1")
    assert not (tmp_path / "one").exists()
    chosen = run("fetch", "sst2", "--out", tmp_path / "one", "--version", 1)
    assert chosen.status == 0
    assert chosen.err == "warning: version 1 of 'sst2' is older than version 2, seen before\n"
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "again"), "but 2 was seen before")


def test_a_version_counts_as_seen_only_after_every_check(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    run("fetch", "sst2", "--out", tmp_path / "one")
    delivery.publish("sst2", TARGET, VECTORS, tamper=lambda files: files.update({CONFIG_FILE: b"{}"}))
    before = seen(tmp_path)
    assert run("fetch", "sst2", "--out", tmp_path / "two").status == 6
    assert run("fetch", "sst2", "--out", tmp_path / "one", "--version", 2).status == 6
    assert seen(tmp_path) == before


def test_a_damaged_state_file_is_refused_and_kept(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    state = tmp_path / "mine.json"
    for content in ("{", "[]", '{"k": 1}', '{"k": {"sst2": "x"}}'):
        state.write_text(content)
        assert_refused(
            run("fetch", "sst2", "--out", tmp_path / "got", "--state", state), "mine.json: damaged"
        )
        assert state.read_text() == content
    assert not (tmp_path / "got").exists()


@settings(max_examples=25, deadline=None)  # each version seen is synced to the disk
@given(st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from("pq"), st.integers(1, 99)), max_size=12))
def test_the_highest_version_seen_never_goes_down(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("seen") / "versions.json"
    highest: dict[tuple[str, str], int] = {}
    for key, prompt, version in history:
        SeenVersions(path).remember(key, prompt, version)
        highest[key, prompt] = max(version, highest.get((key, prompt), 0))
    for (key, prompt), version in highest.items():
        assert SeenVersions(path).highest(key, prompt) == version
        SeenVersions(path).require_not_older(key, prompt, version)
        with pytest.raises(VerificationError):
            SeenVersions(path).require_not_older(key, prompt, version - 1)
