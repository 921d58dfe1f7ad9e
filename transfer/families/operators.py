"""The operators of PyTorch that a pass of a model runs."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SHAPED_BY_VALUES = ("grouped_mm", "nonzero", "masked_select", "unique", "bincount", "histc")


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records whether any tensor's shape depends on values, for example where tokens are sorted by expert.

    A record's neighbours then decide the shapes of kernels, and equal bits on a few test lines would prove nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shaped_by_values = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen = args[1] if func is torch.ops.aten.index.Tensor else ()
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in chosen)
        self.shaped_by_values |= by_mask or any(name in str(func) for name in SHAPED_BY_VALUES)
        return func(*args, **(kwargs or {}))
