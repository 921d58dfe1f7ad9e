"""Whether the layers of a cut are those of the target."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tests.families.outcomes import DifferentError, same
from tests.families.sizes import LAYERS
from tests.families.subject import Subject
from transfer.distillation.proxy import Proxy, cut


def layers_of_a_cut(subject: Subject, layers: tuple[int, int]) -> str:
    """Layers of a cut compute what they compute in their place, and a stored proxy reads the same."""
    proxy = replace(subject.ours, model=cut(subject.ours, layers))
    ours = proxy.answer_logits(subject.lines)
    same(ours, _in_place(subject, layers))
    place = subject.directory / f"proxy-{layers[0]}"
    place.mkdir()
    Proxy(proxy, subject.ours.ref, layers, 0.0, None, None, 0).save(place)
    stored = Proxy.load(place).model.answer_logits(subject.lines)
    same(stored, ours, "when stored ", 1e-6)
    return ""


def _in_place(subject: Subject, layers: tuple[int, int]) -> torch.Tensor:
    """Stock logits of the target when every layer but `layers` passes its input on."""
    others = [layer for index, layer in enumerate(_stack(subject.plain)) if index not in layers]
    for layer in others:  # no hooks: some encoders call `forward` themselves
        layer.forward = partial(_passing_on, layer.forward)
    try:
        return torch.stack(
            [subject.logits(line.ids, **subject.uncached)[line.answer] for line in subject.lines]
        )
    finally:
        for layer in others:
            del layer.forward


def _passing_on(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Run a layer for whatever it leaves to others, and put its input in place of its output."""
    output, state = forward(*inputs, **named), inputs[0] if inputs else named["hidden_states"]
    if isinstance(output, dict):  # SqueezeBERT's
        return {**output, "feature_map": state}
    return (state, *output[1:]) if isinstance(output, tuple | list) else state


def _stack(model: PreTrainedModel) -> nn.ModuleList:
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == LAYERS]
    if not stacks:
        raise DifferentError("cut, though there is no list of layers")
    return max(stacks, key=lambda stack: sum(weight.numel() for weight in stack.parameters()))
