"""`promptferry-coordinator proxy`: what clients tune on."""

import pytest
import torch

from coordinator.home.identity import identity
from coordinator.home.settings import read
from transfer.distillation.checkpoint import Checkpoint, Checkpoints
from transfer.model_ref import ModelRef
from transfer.protocol.signing import PROXY_PREDICATE, Statement


def test_a_proxy_is_made_signed_and_offered(proxied, store):
    record = store.proxy("tiny")
    key = identity(read(proxied.directory)).publisher.public_key()
    statement = Statement.verified(record.statement, key, PROXY_PREDICATE)
    assert statement.predicate["proxy"] == {"name": "tiny", "digest": record.model.digest}
    assert statement.predicate["layers"] == [0]
    assert {file.path: file.digest for file in record.files} == statement.digests
    for file in record.files:
        statement.check(file.path, (record.directory / file.path).read_bytes())
    assert [item["name"] for item in proxied.json("proxy", "list")] == ["tiny"]
    assert proxied.json("proxy", "show", "tiny")["parent"] == "tiny-target"
    assert proxied("proxy", "show", "tiny") == 0
    assert "model.safetensors" in proxied.out


def test_proxies_are_listed_with_their_held_out_measurements(proxied):
    (listed,) = proxied.json("proxy", "list")
    assert (listed["layers"], listed["steps"], listed["parent"]) == ([0], 0, "tiny-target")
    assert listed["held_out_kl"] > 0
    assert listed["held_out_perplexity"] != listed["target_perplexity"] > 1
    assert proxied("proxy", "list") == 0
    assert all(word in proxied.out for word in ("KL", "perplexity", f"{listed['held_out_kl']:.3f}"))


def test_a_proxy_that_tells_no_tokens_has_no_perplexity(command, public_text, tiny_encoder):
    words = ("proxy", "distil", "--text", public_text, "--layers", "1", "--steps", "1")
    made = command.json(*words, "--name", "bare", "--target", tiny_encoder)
    (listed,) = command.json("proxy", "list")
    for told in (made, listed, command.json("proxy", "show", "bare")):
        assert told["held_out_kl"] > 0
        assert (told["held_out_perplexity"], told["target_perplexity"]) == (None, None)
    assert command("proxy", "list") == 0
    row = next(line for line in command.out.splitlines() if " bare " in line)
    assert row.replace("│", " ").split()[-3:] == [f"{listed['held_out_kl']:.3f}", "–", "–"]
    assert command("proxy", "show", "bare") == 0
    assert "perplexity – (target –)" in " ".join(command.out.split())


def test_a_proxy_is_distilled_with_chosen_layers_and_settings(command, public_text):
    words = ("proxy", "distil", "--text", public_text, "--name", "both", "--layers", "0,1", "--steps", "2")
    options = ("--freeze", "none", "--precision", "bf16", "--accumulate", "2", "--prompted-share", "0.5")
    made = command.json(*words, *options, "--resume")
    assert (command.status, made["layers"], made["steps"]) == (0, [0, 1], 2)


def test_an_unfinished_distillation_is_resumed_and_only_with_its_recipe(command, public_text):
    place = command.directory / "proxies" / ".half.unfinished"
    Checkpoints(place, {"steps": 2}).save(Checkpoint(1, 1.0, 0, {"proxy/x": torch.zeros(1)}))
    words = ("proxy", "distil", "--text", public_text, "--name", "half", "--layers", "1", "--steps", "2")
    assert command(*words) == 1
    assert "--resume" in command.err
    assert command(*words, "--resume") == 2
    assert "is of recipe" in command.err
    assert command("proxy", "list") == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--freeze", "body"),
        ("--precision", "fp16"),
        ("--kl-at", "some"),
        ("--accumulate", "0"),
        ("--steps", "-1"),
    ],
)
def test_an_impossible_recipe_is_told_before_anything_is_read(command, option, value):
    words = ("proxy", "distil", "--text", "nowhere.txt", "--name", "half", "--layers", "1")
    assert command(*words, option, value) == 2
    assert value in command.err
    assert "nowhere" not in command.err


def test_a_proxys_name_is_used_once_and_its_layers_are_checked(proxied, public_text):
    words = ("--text", public_text, "--steps", "0")
    assert proxied("proxy", "distil", "--name", "tiny", "--layers", "1", *words) == 1
    assert "exists already" in proxied.err
    assert proxied("proxy", "distil", "--name", "other", "--layers", "first", *words) == 2
    assert proxied("proxy", "distil", "--name", "other", "--layers", "3", *words) == 2
    assert "3 layers cannot be cut from a target of 2" in proxied.err
    assert [path.name for path in (proxied.directory / "proxies").iterdir()] == ["tiny"]


def test_a_proxy_made_elsewhere_is_copied_signed_and_offered(command, tiny_proxy, store):
    assert command.json("proxy", "register", tiny_proxy, "--name", "brought")["layers"] == [0]
    record = store.proxy("brought")
    assert record.directory == command.directory.resolve() / "proxies" / "brought"
    assert record.model.digest == ModelRef.of_directory("brought", tiny_proxy).digest
    assert command("proxy", "register", tiny_proxy.parent, "--name", "nothing") == 2
    assert not (command.directory / "proxies" / "nothing").exists()
