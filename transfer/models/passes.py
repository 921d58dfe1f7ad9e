"""The shapes in which private records go through a model: a function of each record alone.

How a kernel rounds depends on the shape of its input. In bfloat16 a gradient moves by 1 to 2 % when its row goes
through a pass of another shape. If the shape depended on a record's neighbours, so would its gradient, and adding
one record would move every other record's gradient. Two rules, which follow from public numbers, prevent this:

* a line is padded to the next of a few lengths, the same for everyone;
* a pass of one length always has the same number of rows; blank rows stand for missing records.

A record's gradient thus has the same bits whatever other records are in the step.

Letters: B records, T tokens, P prompt tokens, K answer tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import torch

from transfer.models.forward_size import forward_tokens
from transfer.tokens.batches import UNCOUNTED, Batch, Line, collate

CPU = torch.device("cpu")

LEAST_TOKENS = 64
"""Fewest tokens of a pass."""


class Shape(NamedTuple):
    """One pass: `records` lines of `tokens` behind the prompt, each with `goal` answer tokens in free text."""

    records: int
    tokens: int
    goal: int


@dataclass(frozen=True, slots=True)
class Manners:
    """What a model does to the rows of a pass, as measured by `transfer.families.probe`.

    Attributes:
        padded: padding behind a row does not change its answer. If False, only lines of equal length share a pass.
        apart: rows of a pass do not change one another. If False, each record has a pass of its own.
        room: largest number of tokens behind the prompt; None if the architecture sets no limit.
    """

    padded: bool = True
    apart: bool = True
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Passes:
    """How private records are put into passes.

    Guarantee:
        The shape of a record's pass depends on the record, the prompt's length, the task and the model only. It does
        not depend on which other records a step includes, or on how many.

    Attributes:
        tokens: approximate number of tokens of a pass, prompt and padding included.
        longest: largest number of tokens of a line, the task's `max_tokens`; limits the padding.
    """

    tokens: int = 384
    longest: int = 2**20

    @staticmethod
    def expecting(records: float, longest: int, width: int, device: torch.device = CPU) -> "Passes":
        """Choose the passes with the least work for a step of about `records` records of a model `width` wide.

        Starting a pass costs as much as `_starting` tokens, and blank rows cost about half a pass for every length
        that occurs. The formula fits the minimum measured on sentences.

        Args:
            records: q·N of the declared, public N. Never pass a count of the records themselves.
            longest: the task's `max_tokens`.
            width: H, the size of an input embedding.
            device: where the model is.
        """
        best = 3.6 * (_starting(width, device) * records) ** 0.5
        # not what memory left to earlier passes: that may depend on what was in them
        return Passes(round(min(max(best, LEAST_TOKENS), forward_tokens(device))), longest)

    def shape(self, line: Line, prompt: int, copies: int, manners: Manners) -> Shape:
        """Return the shape of the pass of `line`, which becomes `copies` rows behind `prompt` tokens.

        The last column of a padded pass is always padding. Transformers takes another path through attention where
        a mask hides nothing, and that choice must not depend on the neighbours.

        Edge cases:
            If the line exceeds `longest`, or its padding does not fit into `manners.room`, the record gets an
            unpadded pass of its own. So does every record of a model whose rows change one another.
        """
        tokens, goal = (
            min(_step(len(line.ids) + 1), self.longest + 1),
            _step(len(line.goal)) if line.goal else 0,
        )
        # `<`, not `≤`: one column of padding must remain
        fits = len(line.ids) < tokens and (manners.room is None or tokens <= manners.room)
        alone = not manners.apart or (manners.padded and not fits)
        if alone or not manners.padded:
            tokens, goal = len(line.ids), len(line.goal)
        return Shape(1 if alone else max(1, self.tokens // ((prompt + tokens) * copies)), tokens, goal)

    def groups(
        self,
        lines: Sequence[Line],
        chosen: Sequence[int],
        prompt: int,
        copies: int,
        manners: Manners = Manners(),
    ) -> Iterator[tuple[Shape, list[int]]]:
        """Yield the chosen lines of each pass, shortest first; lines of one shape keep their order in `chosen`."""
        alike: dict[Shape, list[int]] = {}
        for index in chosen:
            alike.setdefault(self.shape(lines[index], prompt, copies, manners), []).append(index)
        for shape in sorted(alike, key=lambda shape: (shape.tokens, shape)):
            members = iter(alike[shape])
            while group := list(islice(members, shape.records)):
                yield shape, group


def filled(lines: Sequence[Line], shape: Shape, pad_id: int) -> Batch:
    """Collate 1 to `shape.records` lines of one shape, with blank rows in place of missing lines.

    Guarantee:
        The batch has exactly `shape.records` rows, so its number of rows does not depend on `lines`.

    Edge cases:
        A blank row has one token. Where lines are not padded it has as many tokens as they have. Its goal is
        `UNCOUNTED` throughout.
    """
    unread = (UNCOUNTED,) * shape.goal
    blank = Line((pad_id,) * (shape.tokens if len(lines[0].ids) == shape.tokens else 1), 0, unread)
    whole = [replace(line, goal=(*line.goal, *unread)[: shape.goal]) for line in lines]
    return collate([*whole, *[blank] * (shape.records - len(lines))], pad_id, shape.tokens)


def _starting(width: int, device: torch.device) -> float:
    """Return the cost of starting a pass (reading weights, the interpreter's own time), in tokens.

    The fit is to a CPU core and models 768 and 256 wide. A token's work grows with the square of the width. Elsewhere
    it is arithmetic, not measured: a GPU of 100 TFLOP/s and 3 TB/s starts 45 kernels a layer at 7 µs each. Widths
    under 512 do not fill it, so their tokens are no cheaper.
    """
    return 24 + 5e6 / width**2 if device.type == "cpu" else 30 + 4e8 / max(width, 512) ** 2


def _step(tokens: int) -> int:
    """Round up to the next length of the series 4, 6, 8, 12, 16, 24 and so on.

    More lengths per octave pad less but leave more rows blank. Two cost least in steps of 20 to 600 records.
    """
    unit = 1 << max(1, (tokens - 1).bit_length() - 2)
    return max(4, -(-tokens // unit) * unit)
