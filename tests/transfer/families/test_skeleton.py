"""Models without weights, against the same models with them."""

import pytest
import torch

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
