"""What a target needs, from its configuration."""

import pytest

from coordinator.publication.sizing import of_target
from transfer.errors import ModelError
from transfer.placement.settings import Placement


def _sizes(source, **placement):
    needs = of_target(str(source), 1, Placement(**placement))
    return {(need.purpose, need.part): need for need in needs if need.counted}


def test_checkpointing_chooses_what_counts(tiny_causal):
    plain, again = _sizes(tiny_causal), _sizes(tiny_causal, checkpointing=True)
    recomputed = again["transfer", "kept for backward, checkpointing"].size
    assert recomputed < plain["transfer", "kept for backward"].size
    assert ("transfer", "kept for backward") not in again


def test_a_proxy_is_trained_in_float32_beside_a_target_in_any_type(tiny_causal):
    full, half = _sizes(tiny_causal), _sizes(tiny_causal, dtype="bfloat16", device="cuda:3")
    part = "proxy's trained weights"
    assert full["distillation", part].size == half["distillation", part].size
    assert full["transfer", "target's weights"].size == 2 * half["transfer", "target's weights"].size
    frozen = ("distillation", "proxy's frozen ends")  # the target's own where types are equal
    assert (frozen in full, frozen in half) == (False, True)


def test_a_quantised_target_is_distilled_whole(tiny_causal):
    sizes = _sizes(tiny_causal, quantise="nf4")
    assert sizes["transfer", "target's weights"].size < sizes["distillation", "target's weights"].size


def test_a_proxy_has_layers_of_its_target(tiny_causal):
    with pytest.raises(ModelError, match="keep 1 to 2"):
        of_target(str(tiny_causal), 3, Placement())
    with pytest.raises(ModelError, match="among the target's 0–1"):
        of_target(str(tiny_causal), (0, 5), Placement())
