"""A module that computes something else for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the block, calls of `module` are calls of `forward`; hooks of PyTorch still run.

    Accelerate keeps its own `forward` on a module that it placed, which moves inputs and weights. It is put back.
    """
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
