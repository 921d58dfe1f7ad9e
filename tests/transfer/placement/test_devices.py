"""A model is where its placement says, in the numbers that it says."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, PerceiverConfig, PerceiverForMaskedLM

from tests.transfer.models.lines import TEXTS
from transfer.errors import ModelError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.placement.devices import device_of, numbers_of, offloaded, require_embeddings
from transfer.placement.settings import Placement
from transfer.tasks import Task


def gradient(model: LanguageModel, task: Task) -> torch.Tensor:
    """The gradient [B, P, H] of lines' answers with respect to a prompt before them."""
    lines = model.encoder(task).encode(TEXTS)
    prompt = model.text_prompt("A sentence about a review", 4).vectors
    rows = prompt.expand(len(lines), -1, -1).clone().requires_grad_(True)
    answers = model.logits(model.collate(lines), rows, model.encoder(task).words)
    (found,) = torch.autograd.grad(answers.log_softmax(-1)[:, 0].sum(), rows)
    return found


def test_a_device_that_is_not_here_is_refused(tiny_causal: Path) -> None:
    with pytest.raises(ModelError, match='device "cuda:7": PyTorch sees no such device here'):
        load(tiny_causal, placement=Placement(device="cuda:7"))


def test_a_model_that_embeds_no_tokens_is_refused() -> None:
    shape = {"num_latents": 2, "d_latents": 8, "d_model": 8, "max_position_embeddings": 8, "vocab_size": 8}
    small = {"num_blocks": 1, "num_self_attends_per_block": 1, "num_self_attention_heads": 2}
    perceiver = PerceiverForMaskedLM(PerceiverConfig(**shape, **small, num_cross_attention_heads=2))
    with pytest.raises(ModelError, match="PerceiverForMaskedLM has no embedding of tokens"):
        require_embeddings(perceiver)


def test_a_model_of_pictures_and_text_has_no_one_table_and_is_refused_as_it_loads(
    tiny_causal: Path, tmp_path: Path
) -> None:
    part = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = part | {"vocab_size": 8, "eos_token_id": 7}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=part | {"image_size": 4, "patch_size": 2}))
    clip.save_pretrained(tmp_path)
    for file in tiny_causal.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ModelError, match="CLIPModel has no embedding of tokens to write a prompt in"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_have_the_dtype_of_the_placement_and_gradients_stay_float32(
    tiny_causal: Path, tiny_task: Task, dtype: str
) -> None:
    model = load(tiny_causal, placement=Placement(device="cpu", dtype=dtype))
    assert {each.dtype for each in model.model.parameters()} == {getattr(torch, dtype)}
    found, wanted = gradient(model, tiny_task), gradient(load(tiny_causal), tiny_task)
    assert found.dtype == torch.float32
    assert numbers_of(model.model) == dtype
    torch.testing.assert_close(found, wanted, atol=0.05 * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize(("quantise", "likeness"), [("int8", 0.98), ("nf4", 0.8)])
def test_a_quantised_model_gives_a_prompt_nearly_the_same_gradient(
    tiny_causal: Path, tiny_task: Task, quantise: str, likeness: float
) -> None:
    model = load(tiny_causal, placement=Placement.model_validate({"device": "cpu", "quantise": quantise}))
    found, wanted = gradient(model, tiny_task).flatten(), gradient(load(tiny_causal), tiny_task).flatten()
    assert torch.cosine_similarity(found, wanted, dim=0) >= likeness
    assert numbers_of(model.model) == quantise
    # LLM.int8 multiplies columns with an outlier in any row apart: no record may share a pass with another
    assert model.traits.apart == (quantise == "nf4")


def test_layers_beyond_memory_are_on_disk_and_their_gradients_are_the_same_bits(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    spread = Placement(device="cpu", max_memory={"cpu": "110KB"}, offload=tmp_path / "layers")
    model = load(tiny_causal, placement=spread)
    assert offloaded(model.model)
    assert device_of(model.model) == torch.device("cpu")
    assert model.checkpointing
    assert torch.equal(gradient(model, tiny_task), gradient(load(tiny_causal), tiny_task))
