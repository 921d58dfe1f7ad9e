"""Encoded lines, and how they are put into batches.

Letters: B records, T tokens, K answer tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

FORWARD_TOKENS = 1536
"""Tokens, padding and prompt included, in one physical forward pass: small enough for a CPU's caches, which is
a third faster than 8192 and pads less. Says nothing about the logical batch."""

FORWARD_PADDING = 48
"""Most padding in one physical forward pass, in tokens: about what another pass costs."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded lines: ids [B, T], mask [B, T] (1 = token), answer [B] (position of the blank).

    `goal` [B, K] holds the tokens of answers in free text, −1 behind an answer's end; None if not known.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    answer: torch.Tensor
    goal: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass(frozen=True, slots=True)
class Line:
    """One encoded text: its token ids and the position of the blank.

    `goal` holds the tokens read from there on, one a position; all but the last of them stand in `ids`.
    """

    ids: tuple[int, ...]
    answer: int
    goal: tuple[int, ...] = ()

    @property
    def reads(self) -> int:
        """How many positions are read: those of the goal, or the blank alone."""
        return len(self.goal) or 1


def collate(lines: Sequence[Line], pad_id: int) -> Batch:
    """Right-pad lines to their own longest."""
    ids = _padded([line.ids for line in lines], pad_id)
    mask = _padded([[1] * len(line.ids) for line in lines], 0)
    goal = _padded([line.goal for line in lines], -1) if any(line.goal for line in lines) else None
    return Batch(ids, mask, torch.tensor([line.answer for line in lines]), goal)


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    parts = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(parts, batch_first=True, padding_value=fill)


def buckets(lengths: Sequence[int], max_tokens: int, max_padding: int | None = None) -> Iterator[list[int]]:
    """Indices grouped by similar length so that rows × longest row ≤ `max_tokens` (at least one row each).

    A group is also closed before more than `max_padding` of its tokens would be padding, if that is given.
    """
    group: list[int] = []
    held = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        held += lengths[index]
        size = (len(group) + 1) * lengths[index]
        if group and (size > max_tokens or (max_padding is not None and size - held > max_padding)):
            yield group
            group, held = [], lengths[index]
        group.append(index)
    if group:
        yield group


def physical_batches(
    lines: Sequence[Line],
    chosen: Sequence[int],
    prompt_length: int,
    copies: int,
    forward_tokens: int = FORWARD_TOKENS,
) -> Iterator[list[int]]:
    """The chosen indices in groups of one forward pass each: similar length, ≤ `forward_tokens`, little padding.

    A line becomes `copies` rows, each behind the `prompt_length` tokens of a prompt.
    """
    lengths = [(len(lines[index].ids) + prompt_length) * copies for index in chosen]
    for group in buckets(lengths, forward_tokens, FORWARD_PADDING):
        yield [chosen[place] for place in group]
