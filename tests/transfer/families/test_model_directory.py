"""A model that is nowhere is refused before PyTorch is imported; one not in its directory, before its weights are."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from transfer.errors import ModelError
from transfer.families.model_directory import require_covered
from transfer.models.loading import load


def test_a_gguf_is_refused_with_what_to_name_instead(tmp_path):
    (tmp_path / "model.Q4.gguf").write_bytes(b"GGUF")
    for source in (tmp_path, tmp_path / "model.Q4.gguf"):
        with pytest.raises(
            ModelError, match=r"GGUF has no gradients.* name the directory with model.safetensors"
        ):
            load(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("someone/not-cached", "cannot load"),
        ("no such path/at all/x", "no such directory"),
        ("/nowhere", "no such directory"),
        ("./nowhere", "no such directory"),
    ],
)
def test_a_model_that_is_nowhere_is_refused_in_one_line(source, reason):
    with pytest.raises(ModelError, match=f"^{source}: {reason}") as caught:
        load(source)
    assert "\n" not in str(caught.value)


@pytest.fixture
def copy(tiny_causal, tmp_path):
    """A model whose weights are in no file of its directory, but in several around it."""
    place = tmp_path / "model"
    shutil.copytree(tiny_causal, place)
    whole = place / "model.safetensors"
    (place / "shards").mkdir()
    shutil.copy(whole, place / "shards" / "1.safetensors")
    shutil.copy(whole, place / "1.SAFETENSORS")
    torch.save(load_file(whole), place / "1.pt")
    whole.rename(tmp_path / "1.safetensors")
    return place


def split(place, *shards, index="model.safetensors.index.json"):
    """Write an index that names the `shards` in turn."""
    spread = {f"weight {number}": shard for number, shard in enumerate(shards)}
    (place / index).write_text(json.dumps({"metadata": {}, "weight_map": spread}))
    return place / index


def configured(place, value):
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | value))


def refusal(place):
    with pytest.raises(ModelError) as caught:
        load(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ELSEWHERE = ["shards/1.safetensors", "../1.safetensors", "1.pt", "1.SAFETENSORS", "gone.safetensors", "", 7]


@pytest.mark.parametrize("shard", [*ELSEWHERE, "./shards/../1.safetensors"])
def test_an_index_of_weights_that_no_digest_sees_is_refused(copy, shard):
    index = split(copy, shard)
    assert refusal(copy) == (
        f"{index}: weight_map names {shard!r}, which is no .safetensors file beside it; "
        "save the model again with save_pretrained"
    )


@pytest.mark.parametrize("named", [*ELSEWHERE, "shards/model.safetensors.index.json", "adapter_model.bin"])
def test_a_configuration_that_names_such_weights_is_refused(copy, named):
    configured(copy, {"transformers_weights": named})
    split(copy / "shards", "1.safetensors")
    assert f"{copy / 'config.json'}: transformers_weights names {named!r}, which is no" in refusal(copy)


def test_a_configuration_may_name_another_index(copy):
    configured(copy, {"transformers_weights": "other.safetensors.index.json"})
    index = split(copy, "../1.safetensors", index="other.safetensors.index.json")
    assert f"{index}: weight_map names" in refusal(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, b"\xff"])
def test_an_index_that_is_none_is_named(copy, content):
    index = copy / "model.safetensors.index.json"
    index.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(copy) == f"{index}: no index of weights; save the model again with save_pretrained"


@pytest.mark.parametrize("link", [False, True])
def test_a_model_in_several_files_or_links_is_loaded_and_its_digest_is_that_of_their_content(copy, link):
    """As in the local cache of the hub, where every file is a link."""
    whole, shard = copy.parent / "1.safetensors", copy / "model-1.safetensors"
    shard.symlink_to(whole) if link else shutil.copy(whole, shard)
    spread = dict.fromkeys(load_file(whole), shard.name)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": spread}))
    before = load(copy)
    weights = {name: 2 * tensor for name, tensor in load_file(whole).items()}
    save_file(weights, shard.resolve(), metadata={"format": "pt"})
    after = load(copy)
    assert torch.equal(after.embedding, 2 * before.embedding)
    assert after.ref.digest != before.ref.digest


def test_an_index_that_nobody_reads_may_name_what_was_never_fetched(copy):
    shutil.copy(copy.parent / "1.safetensors", copy / "model.safetensors")
    split(copy, "gone.safetensors")
    split(copy, "pytorch_model-1.bin", index="pytorch_model.bin.index.json")
    whole = load_file(copy / "model.safetensors")
    assert torch.equal(load(copy).embedding, whole["model.embed_tokens.weight"])
    (copy / "model.safetensors").rename(copy / "mine.safetensors")
    configured(copy, {"transformers_weights": "mine.safetensors"})
    assert torch.equal(load(copy).embedding, whole["model.embed_tokens.weight"])


def test_a_directory_without_weights_is_left_to_transformers(copy):
    require_covered(copy)
    require_covered(copy, "gone.safetensors.index.json")
    assert "no file named model.safetensors" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "key", "other"),
    [
        ("config.json", "configuration_files", "config.4.0.0.json"),
        ("tokenizer_config.json", "fast_tokenizer_files", "tokenizer.4.0.0.json"),
    ],
)
def test_files_of_newer_versions_are_read_beside_the_list_and_refused_elsewhere(copy, file, key, other):
    shutil.copy(copy.parent / "1.safetensors", copy / "model.safetensors")
    settings = json.loads((copy / file).read_text())
    shutil.copy(copy / f"{other.partition('.')[0]}.json", copy / other)
    (copy / file).write_text(json.dumps(settings | {key: [other]}))
    load(copy)
    (copy / other).rename(copy / "shards" / other)
    (copy / file).write_text(json.dumps(settings | {key: [other, f"shards/{other}"]}))
    assert f"{copy / file}: {key} names 'shards/{other}', which is not beside it" in refusal(copy)
