"""Which operators of PyTorch a pass of a model runs."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SHAPED_BY_VALUES = ("grouped_mm", "nonzero", "masked_select", "unique", "bincount", "histc")


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether the shape of anything inside depends on values, as where tokens are sorted by their expert.

    Kernels then get shapes that the neighbours decide. Equal bits on a few lines would be luck.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shaped_by_values = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        chosen = args[1] if func is torch.ops.aten.index.Tensor else ()
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in chosen)
        self.shaped_by_values |= by_mask or any(name in str(func) for name in SHAPED_BY_VALUES)
        return func(*args, **(kwargs or {}))
