"""`promptferry-client proxy`: the models a client tunes on."""

from pathlib import Path

import pytest

from tests.client.commands.command import Command
from transfer.model_ref import ModelRef


def test_a_distilled_proxy_is_registered_with_its_digest(ready: Command, tiny_causal: Path) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("\n".join(f"the film number {i} was great and the plot was slow" for i in range(60)))
    words = "proxy", "distil", "--target", tiny_causal, "--layers", 1, "--text", text, "--name", "cut"
    made = ready.json(*words, "--steps", 3)
    assert ready.status == 0
    assert made["digest"] == ModelRef.of_directory("cut", ready.directory / "proxies" / "cut").digest
    assert made["layers"] == [0]
    (listed,) = ready.json("proxy", "list")
    assert made.items() <= listed.items()
    assert listed["parent"] == tiny_causal.name
    assert listed["held_out_kl"] >= 0
    assert listed["parent_digest"] == ModelRef.of_directory("", tiny_causal).digest
    assert ready("proxy", "list") == 0
    assert f"KL {listed['held_out_kl']:.3f}" in " ".join(ready.out.replace("│", " ").split())
    assert ready(*words) == 1
    assert "cut exists already" in ready.err
    assert [path.name for path in (ready.directory / "proxies").iterdir()] == ["cut"]


def test_a_client_distils_with_the_coordinators_options(ready: Command, tiny_causal: Path) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("\n".join(f"the film number {i} was great and the plot was slow" for i in range(60)))
    words = "proxy", "distil", "--target", tiny_causal, "--layers", "0,1", "--text", text, "--name", "cut"
    assert ready(*words, "--freeze", "body") == 2
    assert "freeze 'body' is none of embeddings, head" in ready.err
    made = ready.json(*words, "--steps", 0, "--resume")
    assert (made["layers"], made["steps"]) == ([0, 1], 0)
    assert made["held_out_kl"] == pytest.approx(0, abs=1e-6)


def test_a_client_s_dry_run_tells_the_size_of_a_proxy_and_makes_nothing(
    ready: Command, tiny_causal: Path
) -> None:
    words = "proxy", "distil", "--target", tiny_causal, "--layers", 1
    dry = ready.json(*words, "--dry-run")
    assert (ready.status, dry["layers"], dry["target_layers"], dry["texts"]) == (0, [0], 2, None)
    assert dry["download_bytes"] > dry["weights_bytes"] == 4 * dry["parameters"]
    assert not (ready.directory / "proxies").exists()
    assert ready(*words) == 2
    assert "missing option --text: only --dry-run does without" in ready.err


def test_a_wrong_target_leaves_nothing_half_made(ready: Command) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("some text\n")
    words = "proxy", "distil", "--target", ready.directory, "--layers", 1, "--text", text, "--name", "cut"
    assert ready(*words) == 2
    assert "not a model directory" in ready.err
    assert not (ready.directory / "proxies").exists()


def test_an_unenrolled_client_is_told_to_enrol(ready: Command) -> None:
    for words in (("run",), ("proxy", "fetch", "cut")):
        assert ready(*words) == 2
        enrol = f"`promptferry-client --dir {ready.directory} enrol INVITATION`"
        assert f"this client is not enrolled; run {enrol}" in ready.err
