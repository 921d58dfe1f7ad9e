"""Encoded lines, and how they are put into batches.

Public text goes through a model in groups of similar length (`physical_batches`). Private records go in passes of
fixed shapes (`Passes`): how a kernel rounds depends on the shape of its input, and a record's gradient must not
depend on its neighbours.

Letters: B records, T tokens, K answer tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

FORWARD_TOKENS = 1536
"""Tokens, padding and prompt included, in one physical forward pass on a CPU. They fit into its caches, which is a
third faster than 8192 and pads less. The logical batch does not depend on it."""

FORWARD_PADDING = 48
"""Most padding in one physical forward pass, in tokens: about what another pass costs."""

NO_MORE = -1
"""Value in `Batch.goal` behind an answer's end, where nothing is read."""

UNCOUNTED = -100
"""Value in a goal where a position is read only to keep a fixed shape, and does not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded lines: ids [B, T], mask [B, T] (1 = token), answer [B] (position of the blank).

    `at` says for each row before which of its columns a prompt stands, or is empty: before column 0 in every row.
    `goal` [B, K] holds the tokens of answers in free text, with `NO_MORE` or `UNCOUNTED` behind an answer's end. It
    is None if there are no such answers.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    answer: torch.Tensor
    goal: torch.Tensor | None = None
    at: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass(frozen=True, slots=True)
class Line:
    """One encoded text: its token ids and the position of the blank.

    `goal` holds the tokens read from there on, one per position. All but the last are also in `ids`. A prompt stands
    before the token at position `at` ≤ `answer`.
    """

    ids: tuple[int, ...]
    answer: int
    goal: tuple[int, ...] = ()
    at: int = 0

    @property
    def reads(self) -> int:
        """Number of positions read: those of the goal, or the blank alone."""
        return len(self.goal) or 1

    def replied(self, goal: tuple[int, ...]) -> "Line":
        """Return the line with `goal` as its answer; the last token of a goal is predicted, never read."""
        return replace(self, ids=(*self.ids, *goal[:-1]), goal=goal)


def collate(lines: Sequence[Line], pad_id: int, tokens: int = 0) -> Batch:
    """Right-pad lines to the longest of them, or to `tokens` if that is more."""
    ids = _padded([line.ids for line in lines], pad_id, tokens)
    mask = _padded([[1] * len(line.ids) for line in lines], 0, tokens)
    goal = _padded([line.goal for line in lines], NO_MORE) if any(line.goal for line in lines) else None
    at = tuple(line.at for line in lines)
    return Batch(ids, mask, torch.tensor([line.answer for line in lines]), goal, at if any(at) else ())


def _padded(rows: Sequence[Sequence[int]], fill: int, width: int = 0) -> torch.Tensor:
    parts = [torch.tensor(row, dtype=torch.long) for row in rows]
    padded = pad_sequence(parts, batch_first=True, padding_value=fill)  # [B, longest]
    return pad(padded, (0, max(0, width - padded.shape[1])), value=fill)


def buckets(lengths: Sequence[int], max_tokens: int, max_padding: int | None = None) -> Iterator[list[int]]:
    """Yield indices grouped by similar length, with rows × longest row ≤ `max_tokens` or a single row.

    With `max_padding`, a group has at most that many tokens of padding.
    """
    group: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        total += lengths[index]
        size = (len(group) + 1) * lengths[index]  # lengths ascend, so this one is the longest
        if group and (size > max_tokens or (max_padding is not None and size - total > max_padding)):
            yield group
            group, total = [], lengths[index]
        group.append(index)
    if group:
        yield group


def physical_batches(
    lines: Sequence[Line],
    chosen: Sequence[int],
    prompt_length: int,
    copies: int,
    forward_tokens: int = FORWARD_TOKENS,
    max_padding: int = FORWARD_PADDING,
) -> Iterator[list[int]]:
    """Yield the chosen indices of each forward pass: similar length, ≤ `forward_tokens`, little padding.

    Each line becomes `copies` rows behind the `prompt_length` tokens of a prompt.
    """
    lengths = [(len(lines[index].ids) + prompt_length) * copies for index in chosen]
    for group in buckets(lengths, forward_tokens, max_padding):
        yield [chosen[place] for place in group]
