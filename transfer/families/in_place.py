"""A model with some of its layers bypassed, the others in their place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from transfer.placement.forward import forward_of


@contextmanager
def alone(model: PreTrainedModel, layers: Sequence[int], stack: str) -> Iterator[None]:
    """Within the block, bypass all layers of the module list `stack` except `layers`."""
    whole: Any = model.get_submodule(stack)
    others = [layer for index, layer in enumerate(whole) if index not in layers]
    with ExitStack() as bypassed:
        for layer in others:  # no hooks: some encoders call `forward` themselves
            bypassed.enter_context(forward_of(layer, partial(_bypassed, layer.forward)))
        yield


def _bypassed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Return a layer's output with its input in place of its hidden states."""
    # the layer runs all the same: later layers may need its other outputs, such as a shared attention bias
    output, state = forward(*inputs, **named), inputs[0] if inputs else named["hidden_states"]
    if isinstance(output, dict):
        key = next(
            key for key, value in output.items() if torch.is_tensor(value) and value.shape == state.shape
        )
        return {**output, key: state}
    return (state, *output[1:]) if isinstance(output, tuple | list) else state
