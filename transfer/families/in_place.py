"""A model with only some of its layers at work, each where it stands."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel


@contextmanager
def alone(model: PreTrainedModel, layers: Sequence[int], stack: str) -> Iterator[None]:
    """Within it the model's other layers hand on what they get, and these are still where they were."""
    whole: Any = model.get_submodule(stack)
    others = [layer for index, layer in enumerate(whole) if index not in layers]
    for layer in others:  # no hooks: some encoders call `forward` themselves
        layer.forward = partial(_handed_on, layer.forward)
    try:
        yield
    finally:
        for layer in others:
            del layer.forward


def _handed_on(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """What a layer gives besides states, and its input in the place of these."""
    output, state = forward(*inputs, **named), inputs[0] if inputs else named["hidden_states"]
    if isinstance(output, dict):
        key = next(
            key for key, value in output.items() if torch.is_tensor(value) and value.shape == state.shape
        )
        return {**output, key: state}
    return (state, *output[1:]) if isinstance(output, tuple | list) else state
