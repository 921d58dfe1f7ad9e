"""Prompt directories published by earlier code: fetched over gRPC, verified, shown and tried by today's."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.prompts import command as user
from client.prompts import directory as artifact
from client.prompts import trial
from client.remote import publisher_key
from transfer.models.loading import load
from transfer.terminal import console

GOLDEN = Path(__file__).parents[2] / "golden" / "v1"
KEY = GOLDEN / "publisher.pub"
NAMES = ("words", "head", "library", "not-private", "first-release", "before-units")
VERSIONED = {"second-prompt", "head-prompt", "tiny-prompt", "free-prompt"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as caught:
            console.run(user.app, [*map(str, words), "--key", str(KEY)])
        printed = capsys.readouterr()
        assert not caught.value.code, printed.err
        return printed.out

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_that_was_fetched_before_is_verified(name: str, run: Callable[..., str]) -> None:
    unit = "user" if name == "not-private" else "record"
    found = json.loads(run("verify", GOLDEN / name, "--format", "json"))
    assert (found["verified"], found["unit"], found["target"]["name"]) == (True, unit, "tiny-target")
    assert found["name"] in VERSIONED


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_the_store_since_before_is_fetched_and_shown(
    name: str, run: Callable[..., str], delivery: Any, tmp_path: Path
) -> None:
    held = GOLDEN / name
    files = {path.name: path.read_bytes() for path in held.iterdir() if path.name != artifact.STATEMENT_FILE}
    prompt = artifact.verified(held, publisher_key.load(KEY)).prompt
    delivery.store.publish(prompt, lambda _version: (artifact.envelope(held), files))
    where = ("--server", delivery.address, "--ca", delivery.paths.ca)
    run("fetch", prompt, *where, "--out", tmp_path / "got", "--state", tmp_path / "state.json")
    for path in held.iterdir():
        assert (tmp_path / "got" / path.name).read_bytes() == path.read_bytes()
    assert "campaign" in run("show", prompt, *where)
    shown = json.loads(run("show", prompt, *where, "--format", "json"))
    assert shown["statement"] == json.loads(artifact.envelope(held).payload)["predicate"]
    assert json.loads(run("list", *where, "--format", "json"))[0]["verified"] is True


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_that_was_fetched_before_is_tried(name: str, tiny_causal: Path) -> None:
    claim = artifact.verified(GOLDEN / name, publisher_key.load(KEY))
    target = load(tiny_causal, lm_head=claim.lm_head)
    target = replace(target, ref=claim.target)  # its digest has the version of Transformers in it
    (chances,) = trial.probabilities(GOLDEN / name, claim, target, ["The film was great."])
    assert list(chances) == ["positive", "negative"]
    assert sum(chances.values()) == pytest.approx(1)
