"""Layers whose activations are computed again in the backward pass instead of being kept (Chen et al. 2016).

Transformers' own switch has no effect in eval mode, and in training mode some families draw dropout. Here each layer
runs inside `torch.utils.checkpoint`, in eval mode, and only while a gradient is wanted. An offloaded layer's weights
are then in memory only while it runs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from transfer.placement.forward import forward_of


@contextmanager
def checkpointed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within the block, passes keep only the input of each of `layers`, except the last.

    The last layer is left alone: a shortcut may narrow it for the length of a forward pass
    (`transfer.families.shortcuts.last_layer_at`), and what is computed again must be the same. This costs the memory
    of one layer.
    """
    with ExitStack() as replaced:
        for layer in layers[:-1]:
            replaced.enter_context(forward_of(layer, partial(_computed_twice, layer.forward)))
        yield


def _computed_twice(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    # a model in eval mode draws no random numbers, so their state need not be restored
    return checkpoint(partial(forward, **named), *inputs, use_reentrant=False, preserve_rng_state=False)
