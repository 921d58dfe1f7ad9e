"""How a model's head is read: at which places, for which tokens, and as which class logits.

Letters: B records, T tokens, R rows per record, N places (row, column) that are read, V vocabulary, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch.nn.functional import normalize, pad

from transfer.errors import ModelError
from transfer.tasks import Truth
from transfer.tokens.batches import NO_MORE, Batch

Words = Sequence[Sequence[int]]
"""Token ids of the label words of each class, one token per word."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The rows to run, `copies` side by side for each record, and the N places to read."""

    batch: Batch
    copies: int
    rows: torch.Tensor
    columns: torch.Tensor

    @property
    def one_a_row(self) -> bool:
        """Whether every row is read at exactly one place, in the order of the rows."""
        return torch.equal(self.rows, torch.arange(len(self.batch)))

    def behind(self, prompt: torch.Tensor | None) -> "Places":
        """Return the places where each row stands behind a `prompt` [B, P, H], if any."""
        return self if prompt is None else replace(self, columns=self.columns + prompt.shape[1])


@dataclass(frozen=True, slots=True)
class WholeWords:
    """Label words of any number of pieces, each read as the mean log-probability of its pieces.

    A causal model reads each piece behind the pieces before it: one row for every different beginning of a word. A
    masked model reads piece i at the i-th mask, in one pass with as many masks as the longest word has pieces, as
    PET does in training (Schick & Schütze 2021, https://arxiv.org/abs/2009.07118). The mean keeps long words
    comparable with short ones. For words of one piece both differ from `Words` by a constant per record.

    Attributes:
        pieces: token ids of each word of each class.
        causal: whether the model is causal.
    """

    pieces: tuple[tuple[tuple[int, ...], ...], ...]
    causal: bool

    @property
    def longest(self) -> int:
        """Number of pieces of the longest word."""
        return max(map(len, chain.from_iterable(self.pieces)))

    @property
    def beginnings(self) -> list[tuple[int, ...]]:
        """Tokens behind the line in each row; a beginning of another beginning shares the longer one's row."""
        if not self.causal:
            return [()]
        every = {word[:-1] for word in chain.from_iterable(self.pieces)}
        return sorted(one for one in every if not any(_begins(other, one) for other in every - {one}))

    def reads(self) -> list[int]:
        """Return how many places, from the answer on, are read in each of a record's rows."""
        return [len(one) + 1 for one in self.beginnings] if self.causal else [self.longest]

    def question(self, batch: Batch) -> Places:
        """Return the rows and places from which every word of every record of `batch` is read."""
        longer, copies, reads = _continued(batch, self.beginnings), len(self.beginnings), self.reads()
        row = torch.arange(copies).repeat_interleave(
            torch.tensor(reads)
        )  # [N / B], a record's row of each place
        rows = (torch.arange(len(batch)).unsqueeze(1) * copies + row).flatten()  # [B, N / B] → [N]
        ahead = torch.cat([torch.arange(number) for number in reads]).repeat(
            len(batch)
        )  # [N], columns past the answer
        return Places(longer, copies, rows, longer.answer[rows] + ahead)

    def class_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Return class logits [B, C], means over each class's words, for logits [N, V] at the question's places."""
        places = sum(self.reads())
        chances = logits.float().log_softmax(dim=-1)
        chances = chances.view(-1, places, chances.shape[-1])  # [N, V] → [B, N / B, V]
        # one [B, words] per class, as classes may differ in their number of words
        classes = [torch.stack([self._chance(chances, word) for word in words], 1) for words in self.pieces]
        return torch.stack([words.mean(dim=1) for words in classes], dim=1)  # [B, C]

    def _chance(self, chances: torch.Tensor, word: tuple[int, ...]) -> torch.Tensor:
        """Return the mean log-probability [B] of a word's pieces, given log-probabilities [B, N / B, V]."""
        rows, reads = self.beginnings, self.reads()
        row = next(index for index, one in enumerate(rows) if not self.causal or _begins(one, word[:-1]))
        first = sum(reads[:row])
        return chances[:, range(first, first + len(word)), word].mean(dim=1)


@dataclass(frozen=True, slots=True)
class Head:
    """A linear read-out of C classes, its rows [C, H] behind those of the prompt it is tuned with.

    Prompt and head are tuned together as in PTEC (Buchner et al. 2024, https://arxiv.org/abs/2309.12075), but pooled
    otherwise: PTEC's code reads the last position, this head the mean state of a line's own tokens, scaled to unit
    length. A record's gradient for the head thus has a norm of at most √2, or √Σ_c w_c² where a text may have several
    labels, and a clip over prompt and head together lets both of them move.

    Attributes:
        classes: C.
        weights: the weight of each class's loss where a text may have several labels; None where it has one.
    """

    classes: int
    weights: tuple[float, ...] | None = None

    def class_logits(self, states: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return class logits [B, C] of states [B, T, H] under `mask` [B, T], by each record's `rows` [B, C, H]."""
        # the sum has the direction of the mean, and only the direction remains: [B, T, H] → [B, H]
        pooled = normalize((states.float() * mask.unsqueeze(2)).sum(dim=1), dim=1)
        return torch.einsum("bh,bch->bc", pooled, rows)

    @property
    def many(self) -> bool:
        """Whether a text may have several labels."""
        return self.weights is not None


Reading = Words | WholeWords | Head


def goals(labels: Sequence[Truth], words: Reading | None) -> torch.Tensor:
    """Return true labels as a loss takes them: class indices [N], or where a text may have several 0 or 1 [N, C]."""
    if not (isinstance(words, Head) and words.many):
        return torch.tensor(labels)
    table = torch.zeros(len(labels), words.classes)
    for row, own in zip(table, labels, strict=True):
        row[torch.tensor(own, dtype=torch.long)] = 1.0
    return table


def question(batch: Batch, words: Reading | None) -> Places:
    """Return where the answers of `batch` are: one place per record unless whole words or free text are read."""
    if isinstance(words, WholeWords):
        return words.question(batch)
    if batch.goal is not None:
        rows, ahead = (batch.goal != NO_MORE).nonzero(as_tuple=True)
        # only `UNCOUNTED` places may lie beyond the last column, so the clamp changes no loss
        columns = (batch.answer[rows] + ahead).clamp(max=batch.ids.shape[1] - 1)
        return Places(batch, 1, rows, columns)
    return Places(batch, 1, torch.arange(len(batch)), batch.answer)


def copies(words: Reading | None) -> int:
    """Return R, the number of rows of a record."""
    return len(words.beginnings) if isinstance(words, WholeWords) else 1


def label_logits(logits: torch.Tensor, words: Reading | None) -> torch.Tensor:
    """Return class logits [B, C] for the logits [N, V] at a question's places; without words, return these logits.

    A class's logit is the mean raw logit of its label words (POST's reading), or see `WholeWords`.

    Raises:
        ModelError: `words` is a `Head`, which reads states.
    """
    if isinstance(words, Head):
        raise ModelError("a head reads pooled states, not logits; call Head.class_logits")
    if words is None:
        return logits
    if isinstance(words, WholeWords):
        return words.class_logits(logits)
    return torch.stack([logits[:, list(ids)].mean(dim=1) for ids in words], dim=1)


def within(logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return `logits` cut to the range of `dtype`, as constants are: their differences then stay what they were."""
    limits = torch.finfo(dtype)  # Chameleon tells of some tokens by the least float32
    return logits.clamp(limits.min, limits.max)


def _continued(batch: Batch, tails: Sequence[Sequence[int]]) -> Batch:
    """Return one row for every record and tail, in this order, with the tail behind the record's last token."""
    room, copies = max(map(len, tails)), len(tails)
    if not room:
        return batch
    step = torch.arange(room)
    ids = pad(batch.ids, (0, room)).repeat_interleave(copies, dim=0)  # [B, T] → [B·R, T + room]
    mask = pad(batch.mask, (0, room)).repeat_interleave(copies, dim=0)
    columns = mask.sum(dim=1, keepdim=True) + step  # [B·R, room], where each row's tail goes
    tokens = torch.tensor([[*tail, *[0] * (room - len(tail))] for tail in tails])
    real = (step < torch.tensor([len(tail) for tail in tails]).unsqueeze(1)).long()
    return Batch(
        ids.scatter(1, columns, tokens.repeat(len(batch), 1)),
        mask.scatter(1, columns, real.repeat(len(batch), 1)),
        batch.answer.repeat_interleave(copies),
        at=tuple(column for column in batch.at for _ in range(copies)),
    )


def _begins(longer: tuple[int, ...], start: tuple[int, ...]) -> bool:
    return longer[: len(start)] == start
