"""How much goes through a model in one forward pass, and what happens where it does not fit into memory.

Public text is split again, and the smaller size stays. A pass of private records is run again with half of its rows,
and that stays for passes of this shape alone. If it stayed for others too, one long record could change how the
gradients of all others are rounded (`transfer.models.passes`).
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from transfer.errors import ModelError
from transfer.tokens.batches import FORWARD_PADDING, FORWARD_TOKENS, Line, physical_batches

T = TypeVar("T")
logger = logging.getLogger(__name__)
TOKENS_ELSEWHERE = 8192
"""Tokens of one forward pass elsewhere than on a CPU.

By arithmetic: a GPU of 1 000 TFLOP/s and 3 TB/s waits for the weights in a pass of under 300 tokens, and to start 20
kernels a layer takes a model of 0.1 B as long as to compute so many. For the backward pass 8 B in bfloat16 keep 46 GB
of them, which fits beside 16 GB of weights and a proxy on 80 GB.
"""


REMEDY = 'lower the task\'s max_tokens, or place the model with checkpointing = true or dtype = "bfloat16"'


def forward_tokens(device: torch.device) -> int:
    """Return the most tokens of one forward pass on `device`, padding and prompt included, if memory allows."""
    return FORWARD_TOKENS if device.type == "cpu" else TOKENS_ELSEWHERE


def attempted(run: Callable[[], T]) -> T | None:
    """Return what `run` returns, or None if memory ran out; what it held is free again then."""
    try:
        return run()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not should_reduce_batch_size(error):
            raise
    clear_device_cache()
    return None


class ForwardSize:
    """The sizes of one model's forward passes; they fall where memory runs out.

    A pass that failed counts for nothing, so no result has a record twice or lacks one.

    Attributes:
        tokens: most tokens of a pass of public text, padding and prompt included.
        fallen: whether that is less than at first.
    """

    def __init__(self, name: str, device: torch.device, *, padded: bool) -> None:
        """Begin with what `device` allows the model `name`, whose answers padding does not change if `padded`."""
        self.tokens, self.fallen = forward_tokens(device), False
        self._name, self._padding = name, FORWARD_PADDING if padded else 0
        self._rows: dict[Hashable, int] = {}
        self._told = False

    def of_lines(
        self,
        lines: Sequence[Line],
        chosen: Sequence[int],
        prompt_length: int,
        copies: int,
        run: Callable[[list[int]], T],
    ) -> Iterator[tuple[list[int], T]]:
        """Yield the chosen lines of each pass, with what `run` returns for them; see `physical_batches`.

        Raises:
            ModelError: one line alone does not fit into memory.
        """

        def grouped(some: Sequence[int]) -> Iterator[list[int]]:
            return physical_batches(lines, some, prompt_length, copies, self.tokens, self._padding)

        return self.of_groups(chosen, grouped, run)

    def of_groups(
        self,
        chosen: Sequence[int],
        grouped: Callable[[Sequence[int]], Iterable[list[int]]],
        run: Callable[[list[int]], T],
    ) -> Iterator[tuple[list[int], T]]:
        """Yield each group of `chosen` that `grouped` forms by `tokens`, with what `run` returns for it.

        Where memory runs out, this group and those behind it are formed again by half of `tokens`.

        Raises:
            ModelError: a group of one does not fit into memory.
        """
        groups = list(grouped(chosen))
        for place, group in enumerate(groups):
            result = attempted(partial(run, group))
            if result is None:
                self.halve(len(group))
                yield from self.of_groups(list(chain.from_iterable(groups[place:])), grouped, run)
                return
            yield group, result

    def of_rows(self, shape: Hashable, rows: int, run: Callable[[int], T]) -> T:
        """Return `run(rows)`, or that of half as many `rows` wherever passes of this `shape` ran out of memory.

        Raises:
            ModelError: a pass of one row does not fit into memory.
        """
        rows = self._rows.get(shape, rows)
        while (result := attempted(partial(run, rows))) is None:
            self._tell(rows)
            rows = self._rows[shape] = rows // 2
        return result

    def halve(self, records: int, remedy: str = REMEDY) -> None:
        """Halve `tokens`, since memory ran out in a pass of `records`.

        Raises:
            ModelError: there was only one; ends with `remedy`.
        """
        self._tell(records, remedy)
        self.tokens, self.fallen = max(1, self.tokens // 2), True

    def _tell(self, records: int, remedy: str = REMEDY) -> None:
        if records == 1:
            raise ModelError(f"model {self._name!r}: not even one record a pass fits into memory; {remedy}")
        if not self._told:
            logger.warning("model %r: memory ran out in a pass; it goes on in smaller ones", self._name)
        self._told = True
