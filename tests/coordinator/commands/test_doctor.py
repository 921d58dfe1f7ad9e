"""`promptferry-coordinator doctor`: what is broken and what is not, and what a target needs."""

import json
import shutil

import pytest


def test_doctor_finds_what_is_broken_and_what_is_not(proxied):
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert proxied.status == 1
    assert [name for name, item in found.items() if not item["healthy"]] == ["serving"]
    (proxied.directory / "secret").chmod(0o644)
    weights = proxied.directory / "proxies" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert "chmod 600" in found["keys"]["detail"]
    assert "proxy tiny: the files differ from those registered" in found["proxies"]["detail"]


def test_a_target_is_sized_from_its_configuration_alone(command, tiny_causal, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_causal, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = command.json("doctor", "--target", bare, "--layers", "1", "--dtype", "bfloat16")
    assert command.status == 0, command.err
    found = {(need["purpose"], need["part"]): need["size"] for need in sizes["needs"] if need["counted"]}
    whole = (tiny_causal / "model.safetensors").stat().st_size  # float32, and a header
    assert 0.8 * whole < 2 * found["transfer", "target's weights"] < whole
    assert found["distillation", "Adam's moments"] == 2 * found["distillation", "their gradients"]
    assert all(sizes["total"][purpose] > 0 for purpose in ("distillation", "transfer", "to each client"))
    assert sizes["seconds"] is None
    assert command("doctor", "--target", bare) == 0
    assert "seconds: not measured" in command.out


def test_bytes_to_a_client_are_those_of_the_proxy_that_is_made(proxied, tiny_causal):
    sizes = proxied.json("doctor", "--target", tiny_causal, "--layers", "1")
    (told,) = (need["size"] for need in sizes["needs"] if need["part"] == "proxy")
    files = proxied.json("proxy", "show", "tiny")["files"]
    assert told == pytest.approx(sum(file["size"] for file in files), rel=0.1)  # headers and records apart


def test_what_cannot_be_sized_is_one_line(command, tmp_path):
    assert command("doctor", "--target", tmp_path) == 2
    assert "config.json is missing" in command.err
    assert command.err.count("\n") == 1
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert command("doctor", "--target", tmp_path) == 2
    assert command.err.splitlines()[-1].startswith("error: vit: cannot size a language model")
    assert command("doctor", "--layers", "2") == 2
    assert "name it by --target" in command.err
