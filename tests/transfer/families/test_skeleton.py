"""Models without weights, against the same models with them."""

import json

import pytest
import torch
from transformers import LlamaForCausalLM

from transfer.errors import ModelError
from transfer.families.skeleton import config_of, skeleton, stored_in
from transfer.models.loading import load
from transfer.placement.settings import Placement


def test_weights_are_those_of_the_real_model(tiny_causal):
    model, made = load(tiny_causal), config_of(tiny_causal)
    bones = skeleton(made, torch.float32)
    assert bones.weights() == sum(weight.nbytes for weight in model.model.parameters())
    assert (bones.width, bones.layers, bones.vocabulary) == (
        model.width,
        model.layers,
        len(model.embedding),
    )
    assert skeleton(made, torch.bfloat16).weights() * 2 == bones.weights()
    assert stored_in(made) == torch.float32


@pytest.mark.parametrize("quantise", ["int8", "nf4"])
def test_quantised_weights_are_estimated_as_bitsandbytes_makes_them(tiny_causal, quantise):
    pytest.importorskip("bitsandbytes")
    model = load(tiny_causal, placement=Placement(quantise=quantise)).model
    real = sum(weight.nbytes for weight in model.parameters())
    found = skeleton(config_of(tiny_causal), torch.bfloat16).weights(quantise)
    assert found == pytest.approx(real, rel=0.06)  # scales are not parameters


def written(directory, config):
    (directory / "config.json").write_text(json.dumps(config))
    return directory


LAYERS = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}
SMALL = LAYERS | {"vocab_size": 300}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("modernbert", SMALL | {"pad_token_id": 0}),
        (
            "gemma3",
            {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "text_config": SMALL | {"model_type": "gemma3_text"},
                "vision_config": LAYERS | {"model_type": "siglip_vision_model"},
            },
        ),
    ],
)
def test_a_model_that_looks_at_its_first_weights_is_sized(tmp_path, kind, config):
    found = config_of(written(tmp_path, {"model_type": kind} | config))
    bones = skeleton(found, torch.float32)
    assert (bones.layers, bones.width) == (2, 64)
    assert bones.vocabulary >= 300


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_counted_once(tmp_path, tied):
    place = written(tmp_path, {"model_type": "llama", "tie_word_embeddings": tied} | SMALL)
    real = LlamaForCausalLM(config_of(place))
    assert skeleton(config_of(place), torch.float32).parameters == sum(
        each.numel() for each in real.parameters()
    )


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        (
            "bart",
            {"architectures": ["BartForConditionalGeneration"]},
            "is an encoder-decoder, which has no single",
        ),
        ("big_bird", SMALL, "with attention_type block_sparse"),
        ("clip", {"architectures": ["CLIPModel"]}, "CLIPModel has no embedding of tokens"),
        ("wav2vec2", {"architectures": ["Wav2Vec2Model"]}, "Wav2Vec2Model has no embedding of tokens"),
        ("encodec", {}, r"config\.json does not say how many layers the model has \(num_hidden_layers\)"),
        ("llama", SMALL | {"num_hidden_layers": 0}, r"does not say how many layers the model has"),
        ("llama", SMALL | {"num_hidden_layers": -1}, r"does not say how many layers the model has"),
    ],
)
def test_a_model_that_would_not_load_is_not_sized(tmp_path, kind, config, says):
    with pytest.raises(ModelError, match=says) as caught:
        skeleton(config_of(written(tmp_path, {"model_type": kind} | config)), torch.float32)
    assert "\n" not in str(caught.value)
