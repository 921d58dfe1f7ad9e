"""The shapes in which private records go through a model: a function of each record alone.

How a kernel rounds depends on the shape of its input: in bfloat16 a gradient moves by 1 to 2 % when its row goes
through a pass of another shape. If the shape told of a record's neighbours, so would its gradient, and adding one
record would move everybody's. So a line is padded to the next of a few lengths that are the same for everyone, and a
pass of one length always has the same number of rows, blank ones where records are missing. Both follow from public
numbers. Whoever else is in a step, a record's gradient has the same bits.

Letters: B records, T tokens, P prompt tokens, K answer tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from transfer.tokens.batches import FORWARD_TOKENS, UNCOUNTED, Batch, Line, collate

LEAST_TOKENS = 64
"""Fewest tokens worth a pass."""


class Shape(NamedTuple):
    """Of one pass: `records` of `tokens` each, behind the prompt, `goal` of them read as an answer in free text."""

    records: int
    tokens: int
    goal: int


@dataclass(frozen=True, slots=True)
class Manners:
    """What a model does to the rows of a pass, as `transfer.families.probe` has seen.

    Attributes:
        padded: padding behind a row leaves its answer as it is. If not, only lines of equal length share a pass.
        apart: rows of a pass leave one another as they are. If not, each record has a pass of its own.
        room: most tokens of a line behind the prompt; None if the architecture sets no limit.
    """

    padded: bool = True
    apart: bool = True
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Passes:
    """How private records are put into passes.

    Attributes:
        tokens: about how many tokens a pass has, prompt and padding included.
        longest: most tokens of a line, the task's `max_tokens`: none is padded further.
    """

    tokens: int = 384
    longest: int = 2**20

    @staticmethod
    def expecting(records: float, longest: int, width: int) -> "Passes":
        """The least work for a step of about so many records, which is q·N of the declared N, not a count.

        Starting a pass costs as much as some tokens do, `_starting` for a model of that width, and blank rows cost
        about half a pass for every length that occurs. Measured on sentences, the sum is least near this.
        """
        best = 3.6 * (_starting(width) * records) ** 0.5
        return Passes(round(min(max(best, LEAST_TOKENS), FORWARD_TOKENS)), longest)

    def shape(self, line: Line, prompt: int, copies: int, manners: Manners) -> Shape:
        """The shape of the pass of `line`, which becomes `copies` rows behind `prompt` tokens.

        The last column of a padded pass is always padding: transformers takes another path through attention
        where a mask hides nothing, and whether it does must not depend on the neighbours.
        """
        tokens, goal = (
            min(_step(len(line.ids) + 1), self.longest + 1),
            _step(len(line.goal)) if line.goal else 0,
        )
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
        """The chosen lines in passes, shortest first, lines of one shape in the order in which they were chosen."""
        alike: dict[Shape, list[int]] = {}
        for index in chosen:
            alike.setdefault(self.shape(lines[index], prompt, copies, manners), []).append(index)
        for shape in sorted(alike, key=lambda shape: (shape.tokens, shape)):
            members = iter(alike[shape])
            while group := list(islice(members, shape.records)):
                yield shape, group


def filled(lines: Sequence[Line], shape: Shape, pad_id: int) -> Batch:
    """The batch of some lines of one shape, with blank rows for those that are missing.

    A blank row has one token where padding does no harm, and as many as the others where it does.
    """
    unread = (UNCOUNTED,) * shape.goal
    blank = Line((pad_id,) * (shape.tokens if len(lines[0].ids) == shape.tokens else 1), 0, unread)
    whole = [Line(line.ids, line.answer, (*line.goal, *unread)[: shape.goal]) for line in lines]
    return collate([*whole, *[blank] * (shape.records - len(lines))], pad_id, shape.tokens)


def _starting(width: int) -> float:
    """Tokens that cost what starting a pass does: reading the weights, and the interpreter's own time.

    Fitted to a CPU core at 768 and 256 wide; a token's work grows with the square of the width.
    """
    return 24 + 5e6 / width**2


def _step(tokens: int) -> int:
    """The least of 4, 6, 8, 12, 16, 24, … that is not less.

    More steps an octave pad less and leave more rows blank; two cost least in steps of 20 to 600 records.
    """
    unit = 1 << max(1, (tokens - 1).bit_length() - 2)
    return max(4, -(-tokens // unit) * unit)
