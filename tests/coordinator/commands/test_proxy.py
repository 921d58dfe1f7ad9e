"""`promptferry-coordinator proxy`: what clients tune on."""

import json

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from coordinator.home.identity import identity
from coordinator.home.settings import read
from tests.benchmarks.sizes import config
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


def test_a_directory_and_a_parquet_file_give_the_proxy_of_the_same_texts(command, public_text):
    folder = command.directory.parent / "corpus"
    (folder / "later").mkdir(parents=True)
    texts = public_text.read_text().splitlines()
    (folder / "SOURCE.txt").write_text("where it is from")
    parquet.write_table(pa.table({"text": texts[:20]}), folder / "a.parquet")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[20:])
    (folder / "later" / "a.jsonl").write_text(lines)
    words = ("proxy", "distil", "--layers", "1", "--steps", "2")
    file = command.json(*words, "--text", public_text, "--name", "file")
    assert command.json(*words, "--text", folder, "--name", "folder")["digest"] == file["digest"]
    (folder / "b.csv").write_text("text")
    assert command(*words, "--text", folder, "--name", "other") == 2
    assert f"error: {folder / 'b.csv'}: public text must be .jsonl, .txt or .parquet" in command.err


def stood(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_a_dry_run_tells_what_the_same_command_makes_and_makes_nothing(command, public_text, store):
    words = ("proxy", "distil", "--text", public_text, "--layers", "1", "--steps", "0", "--name", "tiny")
    before = stood(command.directory)
    dry = command.json(*words, "--dry-run")
    assert command(*words, "--dry-run") == 0
    assert f"layers [0] of 2: {dry['parameters']:,} parameters in float32" in command.out
    assert stood(command.directory) == before
    command.json(*words)
    record = store.proxy("tiny")
    weights = load_file(record.directory / "model.safetensors").values()
    assert dry["parameters"] == sum(weight.numel() for weight in weights)
    assert dry["weights_bytes"] == sum(weight.nbytes for weight in weights)
    assert dry["download_bytes"] == pytest.approx(sum(file.size for file in record.files), abs=4096)
    assert dry["download_bytes"] > dry["weights_bytes"]
    assert (dry["layers"], dry["texts"]) == ([0], len(public_text.read_text().splitlines()))
    assert dry["tokens_estimated"] > dry["texts"]
    assert dry["total"]["distillation"] == sum(
        need["size"] for need in dry["needs"] if need["purpose"] == "distillation"
    )


def test_a_dry_run_needs_a_configuration_alone(command, tmp_path, public_text):
    large = tmp_path / "8b"
    config("8B").to_json_file(large.with_suffix(".json"))
    large.mkdir()
    large.with_suffix(".json").rename(large / "config.json")
    words = ("proxy", "distil", "--target", large, "--layers", "0,31", "--dry-run")
    half = command.json(*words, "--dtype", "bfloat16", "--text", public_text)
    assert (half["layers"], half["target_layers"], half["tokens_estimated"]) == ([0, 31], 32, None)
    assert half["parameters"] == 2 * 128_256 * 4096 + 2 * 218_112_000 + 4096
    full = command.json(*words)
    assert (full["texts"], full["tokens_estimated"]) == (None, None)
    assert full["total"]["distillation"] > half["total"]["distillation"]
    for wrong, says in (
        (("--layers", "33"), "33 layers cannot"),
        (("--quantise", "nf4"), "cut from nf4 weights"),
    ):
        assert command(*words, *wrong) == 2
        assert says in command.err
    made = *words[:-1], "--text", public_text, "--name", "a"
    assert command(*made, "--quantise", "nf4") == 2  # before it finds that there are no weights
    assert "cut from nf4 weights" in command.err


@pytest.mark.parametrize(
    ("given", "says"), [(("--name", "a"), "--text"), (("--text", "a.txt"), "--name")], ids=["text", "name"]
)
def test_only_a_dry_run_does_without_text_and_name(command, given, says):
    assert command("proxy", "distil", "--layers", "1", *given) == 2
    assert f"missing option {says}" in command.err
