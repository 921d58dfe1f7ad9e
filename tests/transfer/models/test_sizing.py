"""What a model without weights says of memory, against the same model with them."""

import json
import logging

import pytest
import torch

from tests.benchmarks.sizes import config
from transfer.families.layout import layer_lists
from transfer.families.skeleton import Skeleton, config_of, skeleton
from transfer.models.loading import load
from transfer.models.sizing import kept_for_backward, kept_for_training, rows_of
from transfer.placement.devices import precision
from transfer.placement.settings import Placement
from transfer.tokens.batches import FORWARD_TOKENS, Batch

ROWS, TOKENS, PROMPT = 3, 9, 4


def _really_kept(model, words):
    """Bytes of all storages, weights apart, that a real pass of the production code keeps."""
    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[:, -1] = 0
    ids = torch.randint(5, 50, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, mask, torch.full((ROWS,), TOKENS - 2))
    rows = torch.randn(ROWS, PROMPT, model.width, requires_grad=True)
    states = model.lm_head == "none"
    return _kept_by(model, lambda: model.states(batch, rows) if states else model.logits(batch, rows, words))


def _kept_by(model, run):
    weights = {weight.data_ptr() for weight in model.model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("name", ["tiny_causal", "tiny_masked", "tiny_encoder"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("words", [[[1], [2]], None], ids=["labels", "vocabulary"])
def test_a_pass_without_weights_keeps_what_one_with_weights_keeps(request, name, dtype, checkpointing, words):
    directory = request.getfixturevalue(name)
    model = load(directory, placement=Placement(dtype=dtype, checkpointing=checkpointing))
    bones = skeleton(config_of(directory), getattr(torch, dtype))
    if name == "tiny_encoder":
        bones = Skeleton(
            bones.model.base_model, "none"
        )  # its configuration promises a head that was not saved
    found = kept_for_backward(bones, ROWS, TOKENS, PROMPT, checkpointing=checkpointing, words=words)
    assert found == _really_kept(model, words)


@pytest.mark.parametrize(
    ("name", "billions", "plain", "again"),
    [("8B", 8.0, 3, 0.3), pytest.param("70B", 70.6, 15, 1, marks=pytest.mark.slow)],
)
def test_large_shapes_are_sized_without_weights_and_checkpointing_keeps_a_tenth(name, billions, plain, again):
    bones = skeleton(config(name), torch.bfloat16)
    kept = kept_for_backward(bones, 8, 48, 20)
    recomputed = kept_for_backward(bones, 8, 48, 20, checkpointing=True)
    assert bones.parameters / 1e9 == pytest.approx(billions, abs=0.1)
    assert kept is not None
    assert recomputed is not None
    assert plain / 2 < kept / 1e9 < plain
    assert recomputed < min(kept / 10, again * 1e9)


@pytest.mark.parametrize("reduced", [False, True])
def test_a_training_pass_without_weights_keeps_what_one_with_weights_keeps(tiny_causal, reduced):
    model = load(tiny_causal)
    for layers in layer_lists(model.model).values():
        layers.requires_grad_(True)
    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[:, -1] = 0

    def run():
        with precision(torch.device("cpu"), reduced=reduced):
            return model.backbone(input_ids=torch.ones_like(mask), attention_mask=mask).last_hidden_state

    found = kept_for_training(skeleton(config_of(tiny_causal), torch.float32), ROWS, TOKENS, reduced=reduced)
    assert found == _kept_by(model, run)


def test_training_keeps_more_than_reading_and_leaves_the_skeleton_frozen(tiny_causal):
    bones = skeleton(config_of(tiny_causal), torch.float32)
    trained = kept_for_training(bones, ROWS, TOKENS + PROMPT)
    assert trained is not None
    assert trained > kept_for_backward(bones, ROWS, TOKENS, PROMPT)
    assert not any(weight.requires_grad for weight in bones.model.parameters())


def test_experts_whose_shapes_depend_on_values_are_not_told_and_leave_no_traceback(tmp_path):
    experts = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_hidden_layers": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(experts | sizes | {"vocab_size": 300}))
    bones = skeleton(config_of(tmp_path), torch.float32)
    assert bones.weights() > 0
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addHandler(handler)
    try:
        assert kept_for_backward(bones, ROWS, TOKENS, PROMPT) is None
    finally:
        logger.removeHandler(handler)
    assert (records, logger.disabled) == ([], False)


def test_a_pass_has_at_least_one_row_and_at_most_the_tokens_of_a_pass():
    here, there = torch.device("cpu"), torch.device("cuda")
    assert rows_of(8, 100, here) == 8
    assert rows_of(100, 100, here) * 100 <= FORWARD_TOKENS < rows_of(100, 100, there) * 100
    assert rows_of(8, 2 * FORWARD_TOKENS, here) == 1
