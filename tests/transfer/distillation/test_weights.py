"""The type in which a proxy is stored."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.transfer.distillation.lessons import SHORT, TEXTS, stirred, weights
from transfer.distillation.distil import distil, make
from transfer.distillation.proxy import Proxy, cut
from transfer.errors import ModelError
from transfer.models.loading import load
from transfer.placement.settings import Placement


def test_a_proxy_of_a_bf16_target_is_stored_in_bf16_as_it_was_measured(tiny_causal, tmp_path):
    whole = load(tiny_causal)
    stirred(whole).model.to(torch.bfloat16).save_pretrained(tmp_path / "target")
    whole.tokenizer.save_pretrained(tmp_path / "target")
    target = load(tmp_path / "target")
    before = {name: value.clone() for name, value in target.model.state_dict().items()}
    measured = weights(distil(target, (0,), TEXTS, SHORT))
    assert all(torch.equal(value, value.bfloat16().float()) for value in measured.values())
    made = make(target, (0,), TEXTS, SHORT, tmp_path / "proxy")
    stored = load_file(tmp_path / "proxy" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    config = (tmp_path / "proxy" / "config.json").read_text()
    assert json.loads(config)["dtype"] == "bfloat16"
    assert str(tmp_path) not in config
    read = weights(Proxy.load(tmp_path / "proxy"))
    assert {value.dtype for value in read.values()} == {torch.float32}
    assert all(torch.equal(value, weights(made)[name]) for name, value in read.items())
    assert not all(torch.equal(value, cut(target, (0,)).state_dict()[name]) for name, value in read.items())
    assert all(torch.equal(value, before[name]) for name, value in target.model.state_dict().items())


def test_a_cut_of_a_target_on_disk_has_the_weights_of_one_in_memory(tiny_causal, tmp_path):
    spread = Placement(device="cpu", max_memory={"cpu": "110KB"}, offload=tmp_path / "layers")
    wanted = cut(load(tiny_causal), [1]).state_dict()
    found = cut(load(tiny_causal, placement=spread), [1]).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_no_proxy_is_cut_from_quantised_weights(tiny_causal):
    target = load(tiny_causal, placement=Placement(device="cpu", quantise="nf4"))
    with pytest.raises(ModelError, match="loaded as nf4, and no proxy can be cut from quantised weights"):
        cut(target, [0])
