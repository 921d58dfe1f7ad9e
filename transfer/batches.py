"""Encoded lines, and how they are put into batches.

Letters: B records, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded lines: ids [B, T], mask [B, T] (1 = token), answer [B] (position of the blank)."""

    ids: torch.Tensor
    mask: torch.Tensor
    answer: torch.Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass(frozen=True, slots=True)
class Line:
    """One encoded text: its token ids and the position of the blank."""

    ids: tuple[int, ...]
    answer: int


def collate(lines: Sequence[Line], pad_id: int) -> Batch:
    """Right-pad lines to their own longest."""
    width = max(len(line.ids) for line in lines)
    ids = torch.full((len(lines), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(lines), width), dtype=torch.long)
    for row, line in enumerate(lines):
        ids[row, : len(line.ids)] = torch.tensor(line.ids)
        mask[row, : len(line.ids)] = 1
    return Batch(ids, mask, torch.tensor([line.answer for line in lines]))


def buckets(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices grouped by similar length so that rows × longest row ≤ `max_tokens` (at least one row each)."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[index] > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
