"""A proxy as it is told before it is made, against the one that is made."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.benchmarks.sizes import config
from tests.transfer.distillation.lessons import SHORT, TEXTS
from transfer.distillation.distil import distil
from transfer.distillation.settings import DistilSettings
from transfer.distillation.sizing import forecast
from transfer.errors import ModelError
from transfer.models.loading import load
from transfer.placement.settings import Placement

CPU = Placement(device="cpu")


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("kind", ["tiny_causal", "tiny_masked", "tiny_encoder"])
def test_a_proxy_has_the_size_that_was_told(request, kind, dtype, tmp_path):
    source = request.getfixturevalue(kind)
    if dtype:
        target = load(source)
        target.model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "target")
        target.tokenizer.save_pretrained(tmp_path / "target")
        source = tmp_path / "target"
    told = forecast(str(source), 1, CPU, DistilSettings())
    proxy = distil(load(source), (0,), TEXTS, DistilSettings(steps=0))
    proxy.save(tmp_path / "proxy")
    weights = load_file(tmp_path / "proxy" / "model.safetensors").values()
    assert told.weights == sum(weight.nbytes for weight in weights)
    assert told.parameters == sum(weight.numel() for weight in weights)
    assert told.dtype == json.loads((tmp_path / "proxy" / "config.json").read_text())["dtype"]
    files = sum(path.stat().st_size for path in (tmp_path / "proxy").iterdir())
    assert told.download == pytest.approx(files, abs=4096)


def sizes(source, placement=CPU, **settings):
    needs = forecast(str(source), 1, placement, DistilSettings(**settings)).needs
    return {need.part: need.size for need in needs if need.purpose == "distillation"}


def test_what_is_not_frozen_is_trained(tiny_causal):
    usual, half, whole = (
        sizes(tiny_causal, freeze=parts) for parts in (("embeddings", "head"), ("head",), ())
    )
    part = "proxy's trained weights"
    assert usual[part] < half[part] < whole[part] == forecast(str(tiny_causal), 1, CPU, SHORT).weights
    assert whole["Adam's moments"] == 2 * whole[part]


def test_a_batch_behind_prompts_is_longer_and_bf16_keeps_other_numbers(tiny_causal):
    part, batch = "kept for backward", {"batch_tokens": 84, "sequence_tokens": 16}
    usual = sizes(tiny_causal, **batch)[part]  # of 5 × 16 tokens
    assert sizes(tiny_causal, **batch, precision="bf16")[part] != usual
    assert sizes(tiny_causal, **batch, prompted_share=0.5)[part] > usual  # of 4 × 21


def test_a_target_of_seventy_billion_weights_is_told_by_its_configuration(tmp_path):
    config("70B").save_pretrained(tmp_path)
    told = forecast(str(tmp_path), 2, Placement(dtype="bfloat16"), DistilSettings())
    assert (told.layers, told.of) == ((0, 79), 80)
    assert told.parameters == 2 * 128_256 * 8192 + 2 * 855_654_400 + 8192
    assert told.needs[0].size == pytest.approx(141.1e9, rel=0.01)


@pytest.mark.parametrize("layers", [0, 3, (1, 0), (0, 0), (0, 2), ()])
def test_layers_that_are_not_there_are_refused_as_a_cut_refuses_them(tiny_causal, layers):
    with pytest.raises(ModelError, match=r"cannot be cut|must be ascending"):
        forecast(str(tiny_causal), layers, CPU, DistilSettings())


def test_a_target_that_no_proxy_can_be_cut_from_is_not_sized(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "albert", "vocab_size": 300}))
    with pytest.raises(
        ModelError, match="AlbertForMaskedLM has no list of 12 layers, so no proxy can be cut"
    ):
        forecast(str(tmp_path), 3, CPU, DistilSettings())
