"""A device with little memory: passes that need more fail as they do on a GPU, on their way forward or back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from transfer.models.language_model import LanguageModel

Cost = Callable[[int, int], int]


@contextmanager
def small_memory(
    model: LanguageModel,
    most: int,
    cost: Cost = lambda rows, columns: rows * columns,
    *,
    behind: bool = False,
) -> Iterator[list[tuple[int, int]]]:
    """Within the block, passes of `model` whose rows and columns cost over `most` run out of memory.

    They fail before the backbone runs, or with `behind` on the way back, with most gradients computed. Yields the
    sizes that failed.
    """
    failed: list[tuple[int, int]] = []

    def require(size: tuple[int, int]) -> None:
        if cost(*size) > most:
            failed.append(size)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def hook(_module: object, _inputs: object, named: dict[str, Any]) -> None:
        embeds: torch.Tensor = named["inputs_embeds"]
        rows, columns, _width = embeds.shape
        if not behind:
            require((rows, columns))
        elif embeds.requires_grad:
            embeds.register_hook(lambda _gradient: require((rows, columns)))

    handle = model.backbone.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield failed
    finally:
        handle.remove()


@contextmanager
def rounding_by_rows(model: LanguageModel) -> Iterator[None]:
    """Within the block, what `model` computes depends on the rows of a pass, as rounding does."""

    def scaled(
        _module: object, inputs: tuple[object, ...], named: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        embeds: torch.Tensor = named["inputs_embeds"]
        return inputs, {**named, "inputs_embeds": embeds * (1 + embeds.shape[0] / 1024)}

    handle = model.backbone.register_forward_pre_hook(scaled, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
