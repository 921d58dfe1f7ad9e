"""Sums of needs, and what quantised weights need."""

import pytest
import torch
from transformers import AutoConfig

from transfer.models.needs import Need, of_weights, totals
from transfer.placement.settings import HERE, Placement


def test_alternatives_are_in_no_sum_and_what_is_not_told_leaves_none():
    needs = [
        Need("transfer", "weights", 5, ""),
        Need("transfer", "kept", 2, ""),
        Need("transfer", "kept, checkpointing", 1, "", counted=False),
        Need("to each client", "proxy", None, ""),
        Need("to each client", "prompt", 3, ""),
    ]
    assert totals(needs) == {"transfer": 7, "to each client": None}


@pytest.mark.parametrize(
    ("kind", "alike"), [("int8", "int8"), ("nf4", "nf4"), ("fp4", "nf4"), ("gptq", "nf4")]
)
def test_weights_that_are_quantised_already_need_what_they_would_need_if_they_became_so(
    tiny_causal, kind, alike
):
    config = AutoConfig.from_pretrained(tiny_causal)
    config.dtype = torch.bfloat16
    made = of_weights("transfer", config, Placement(quantise=alike))
    bits = {"load_in_8bit": True} if kind == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": kind}
    config.quantization_config = {"quant_method": "gptq"} if kind == "gptq" else bits
    found = of_weights("transfer", config, HERE)
    assert found.size == made.size
    assert f"{kind} by estimate" in found.detail
