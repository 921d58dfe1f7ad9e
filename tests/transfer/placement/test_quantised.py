"""A checkpoint that was quantised before it was saved is told as what it is, or refused in one line."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from transfer.errors import ModelError
from transfer.families.skeleton import config_of
from transfer.models.loading import load
from transfer.placement.devices import numbers_of
from transfer.placement.quantised import stored_as
from transfer.placement.settings import HERE, Placement

METHODS = [
    "fp8",
    "fbgemm_fp8",
    "compressed-tensors",
    "mxfp4",
    "hqq",
    "torchao",
    "aqlm",
    "eetq",
    "exl2",
    "banana",
]


@pytest.fixture(scope="module", params=["int8", "nf4", "fp4"])
def stored(request, tiny_causal, tmp_path_factory):
    """A kind of weights, and a checkpoint of them."""
    place = tmp_path_factory.mktemp("stored") / request.param
    shutil.copytree(tiny_causal, place)
    (place / "model.safetensors").unlink()
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": request.param}
    asked = BitsAndBytesConfig(**({"load_in_8bit": True} if request.param == "int8" else four_bits))
    AutoModelForCausalLM.from_pretrained(
        tiny_causal, quantization_config=asked, dtype=torch.bfloat16
    ).save_pretrained(place)
    return request.param, place


def configured(tiny_causal, tmp_path, settings):
    place = tmp_path / "model"
    shutil.copytree(tiny_causal, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return place


def refusal(place, placement=HERE):
    with pytest.raises(ModelError) as caught:
        load(place, placement=placement)
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith(f"{place}: ")
    return told.removeprefix(f"{place}: ")


def test_weights_are_told_as_what_they_were_quantised_to(stored, caplog):
    kind, place = stored
    model = load(place)
    assert numbers_of(model.model) == stored_as(AutoConfig.from_pretrained(place)) == kind
    assert not caplog.records
    if kind != "fp4":
        assert numbers_of(load(place, placement=Placement(quantise=kind)).model) == kind


def test_what_they_cannot_become_is_refused(stored):
    kind, place = stored
    for other in {"int8", "nf4"} - {kind}:
        asked = HERE.twin(other)
        assert refusal(place, asked) == (
            f"its weights are {kind} already, and cannot become {other}; leave quantise out, or take the checkpoint "
            "that is not quantised"
        )
    for dtype in ("float32", "float16"):
        told = f"its {kind} weights compute in bfloat16; leave dtype out"
        assert refusal(place, Placement(dtype=dtype)) == told
    load(place, placement=Placement(dtype="bfloat16"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_not_read_is_named_with_advice(tiny_causal, tmp_path, method):
    place = configured(tiny_causal, tmp_path, {"quant_method": method, "bits": 4})
    told = (
        f"config.json has a quantization_config of {method}, whose weights are not read here; take the checkpoint "
        'that is not quantised, with quantise = "nf4" or "int8" if it is too large'
    )
    assert refusal(place) == told
    with pytest.raises(ModelError, match="whose weights are not read here"):
        config_of(place)  # nor is it sized as if it were whole


def test_a_method_without_a_name_is_refused(tiny_causal, tmp_path):
    assert "of an unnamed method, whose" in refusal(configured(tiny_causal, tmp_path, {"bits": 4}))


@pytest.mark.parametrize(("method", "packages"), [("gptq", "optimum and gptqmodel"), ("awq", "gptqmodel")])
def test_a_method_whose_packages_are_missing_names_them(tiny_causal, tmp_path, monkeypatch, method, packages):
    monkeypatch.setattr("transfer.placement.quantised.find_spec", lambda _name: None)
    place = configured(tiny_causal, tmp_path, {"quant_method": method, "bits": 4, "group_size": 128})
    assert refusal(place) == (
        f"its weights were quantised by {method}, which needs {packages}: pip install "
        f"{packages.replace(' and', '')}, or take the checkpoint that is not quantised"
    )
