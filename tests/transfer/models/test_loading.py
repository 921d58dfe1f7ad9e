"""A model is loaded where its placement says, and a transfer does not notice."""

from pathlib import Path

import pytest
import torch

from transfer.errors import ModelError
from transfer.models import load
from transfer.models.self_check import require_sound
from transfer.placement.settings import Placement
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.tasks import Task

KINDS = ("first", "old", "new")
TEXTS = [f"the {kind} film was {verdict}" for kind in KINDS for verdict in ("good", "bad", "fine", "dull")]


def test_a_target_on_disk_gives_the_prompt_of_one_in_memory(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    spread = Placement(device="cpu", max_memory={"cpu": "110KB"}, offload=tmp_path / "layers")
    proxy, whole, offloaded = load(tiny_causal), load(tiny_causal), load(tiny_causal, placement=spread)
    head = offloaded.model.get_output_embeddings()
    assert "disk" in offloaded.model.hf_device_map.values()
    hook = vars(head)["forward"]
    require_sound(offloaded)
    prompt = proxy.text_prompt("A sentence about a review", 4)
    settings = TransferSettings(steps=3, check_every=3, learning_rate=0.01)
    found = [
        transfer(prompt, proxy, target, tiny_task, TEXTS, settings).prompt for target in (whole, offloaded)
    ]
    assert torch.equal(found[0].vectors, found[1].vectors)
    assert vars(head)["forward"] is hook


def test_memory_that_does_not_hold_the_embeddings_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    spread = Placement(device="cpu", max_memory={"cpu": "60KB"}, offload=tmp_path / "layers")
    with pytest.raises(ModelError, match="max_memory leaves no room for the embeddings"):
        load(tiny_causal, placement=spread)


def test_checkpointing_is_the_placements_to_say(tiny_causal: Path) -> None:
    assert not load(tiny_causal).checkpointing
    assert load(tiny_causal, placement=Placement(checkpointing=True)).checkpointing
