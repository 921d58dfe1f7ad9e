"""Layers that stand aside hand on what they get, and work again afterwards."""

from pathlib import Path

import torch

from transfer.families.in_place import alone
from transfer.models.loading import load


def test_a_layer_that_stands_aside_changes_nothing_and_comes_back(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    stack = next(name for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList))
    ids = torch.arange(5)[None]
    whole = model(ids).logits
    with alone(model, [], stack):
        none = model(ids).logits
        embedded = model.get_input_embeddings()(ids)
        assert torch.equal(none, model(inputs_embeds=embedded).logits)
    assert not torch.equal(whole, none)
    assert torch.equal(whole, model(ids).logits)
