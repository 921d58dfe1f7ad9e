"""A second device on a machine that has none.

A tensor on the card says that it is on `lazy:0`, keeps its numbers on the CPU, and refuses to be mixed with tensors
that are not on the card, as a GPU's tensors do. Numbers are real, so results can be compared with those of the CPU.
This shows where devices are mixed, but not what only a GPU does: streams, pinned memory, other kernels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CARD = torch.device("lazy:0")
_aten = torch.ops.aten
_MAY_MIX = {  # as on a GPU: copies between devices, and indices on the CPU
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class OnCard(torch.Tensor):
    """A tensor on the card; `inner` has its numbers."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnCard":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, device=CARD, requires_grad=False, **layout
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self, **_named: Any) -> str:
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def card() -> Iterator[None]:
    """Within the block, tensors can be made on the card, and no operation may mix them with the CPU's."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=card) is made on the CPU and moved
    try:
        with _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    asked = kwargs.get("device")
    _require_unmixed(func, leaves)
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(each.inner): each for each in leaves if isinstance(each, OnCard)}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if func is _aten.copy_.default:
        return args[0]
    to_card = (
        any(isinstance(each, OnCard) for each in leaves) if asked is None else torch.device(asked) == CARD
    )

    def wrapped(each: Any) -> Any:
        bare = isinstance(each, torch.Tensor) and not isinstance(each, OnCard)
        return OnCard(each) if bare else each

    def wrapped_again(each: Any) -> Any:
        return known[id(each)] if id(each) in known else wrapped(each)

    return tree_map(wrapped_again, result) if to_card else result


def _require_unmixed(func: Any, leaves: list[torch.Tensor]) -> None:
    strangers = [each for each in leaves if not isinstance(each, OnCard) and each.dim()]
    mixed = (
        bool(strangers) and len(strangers) < len(leaves) and any(isinstance(each, OnCard) for each in leaves)
    )
    allowed = func is _aten.copy_.default or (func in _MAY_MIX and isinstance(leaves[0], OnCard))
    if mixed and not allowed:
        shapes = [tuple(each.shape) for each in strangers]
        raise RuntimeError(f"all tensors must be on one device: {func} got {CARD} and cpu {shapes}")


def _inner(each: Any) -> Any:
    return each.inner if isinstance(each, OnCard) else each
