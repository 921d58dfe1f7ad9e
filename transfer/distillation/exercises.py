"""Exercises of a model on plain text: positions in a line, and the tokens that belong there.

Letters: B sequences, T tokens, P prompt tokens, H hidden size, N positions to read, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch

from transfer.distillation.settings import LEAST_TOKENS, DistilSettings
from transfer.errors import ModelError
from transfer.files.public_text import PublicText
from transfer.models.forward_size import attempted
from transfer.models.language_model import LanguageModel
from transfer.tokens.batches import Batch
from transfer.tokens.corpus import Corpus, sequences_of

T = TypeVar("T")
LEAST_SEQUENCES = 20
NO_GOAL = -100
"""Goal of a position that is read but has no token to restore; PyTorch's cross-entropy skips this value."""

PASS_TOKENS = 1024
"""Tokens of one pass on a CPU, whose caches hold them. A step does not depend on it, except in its rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Exercise:
    """A batch with the positions to read and the tokens that belong there.

    Attributes:
        ids: tokens [B, T].
        mask: attention mask [B, P + T], the prompt included.
        rows: rows [N] of the positions to read.
        columns: columns [N] of these positions in `mask`.
        goal: tokens [N] at these positions, or `NO_GOAL`; at least one is a token.
        prompt: soft prompt [P, H] before every sequence; P may be 0.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    goal: torch.Tensor
    prompt: torch.Tensor

    @property
    def restorable(self) -> "Exercise":
        """The same exercise, read only at positions with a token to restore."""
        goals = self.goal != NO_GOAL
        return replace(self, rows=self.rows[goals], columns=self.columns[goals], goal=self.goal[goals])

    def behind(self, prompt: torch.Tensor) -> "Exercise":
        """Return the same exercise behind a soft prompt [P, H], which moves every position by P."""
        mask = torch.cat([self.mask.new_ones(len(self.mask), len(prompt)), self.mask], dim=1)
        return replace(self, mask=mask, columns=self.columns + len(prompt), prompt=prompt)

    def pieces(self, tokens: int | None, least: int = 1) -> Iterator["Exercise"]:
        """Yield the exercise in parts of at most `tokens` tokens, prompt and padding included, or of one sequence.

        There are at least `least` parts if there are sequences enough; without `tokens` there are not more.
        Each part is as long as its longest sequence. A batch is sorted by length, so little padding is left.
        """
        size = -(-len(self.ids) // least)
        if tokens is not None:
            size = min(size, max(1, tokens // self.mask.shape[1]))
        for low in range(0, len(self.ids), size):
            high = low + size
            own = (self.rows >= low) & (self.rows < high)
            read = replace(self, rows=self.rows[own] - low, columns=self.columns[own], goal=self.goal[own])
            longest = int(self.mask[low:high].sum(dim=1).max())
            ids = self.ids[low:high, : longest - len(self.prompt)]
            yield replace(read, ids=ids, mask=self.mask[low:high, :longest])


def shuffled(target: LanguageModel, texts: PublicText, settings: DistilSettings) -> Corpus:
    """Return the sequences of the texts in a random order that the seed fixes.

    Raises:
        ModelError: there are too few of them, or the target has too few positions.
        DataError: the text cannot be read again, or it changed.
    """
    sequences = sequences_of(target.tokenizer, texts, LEAST_TOKENS, settings.sequence_tokens)
    if len(sequences) < LEAST_SEQUENCES:
        raise ModelError(
            f"{len(sequences)} sequences of public text, {LEAST_TOKENS} tokens or more, are too few to distil on, "
            f"{LEAST_SEQUENCES} are required; add text"
        )
    longest = int(sequences.lengths.max())
    longest += settings.prompted_tokens if settings.prompted_share else 0
    target.require_positions(longest, "lower sequence_tokens")
    return sequences.shuffled(settings.seed)


def exercises(
    model: LanguageModel, sequences: Corpus, settings: DistilSettings, generator: torch.Generator
) -> Iterator[Exercise]:
    """Yield one pass over the sequences in length-bucketed batches of random order.

    A share of the batches stands behind a prompt of random rows of the model's input embeddings.
    """
    groups = list(sequences.groups(settings.batch_tokens))
    for index in torch.randperm(len(groups), generator=generator).tolist():
        batch = model.collate([sequences[i] for i in groups[index].tolist()])
        exercise = _posed(model, batch, settings, generator)
        if settings.prompted_share and torch.rand((), generator=generator) < settings.prompted_share:
            exercise = exercise.behind(model.vocabulary_prompt(settings.prompted_tokens, generator).vectors)
        yield exercise


def _posed(
    model: LanguageModel, batch: Batch, settings: DistilSettings, generator: torch.Generator
) -> Exercise:
    """Return the exercise for the LM head of `model`; without a head, read every token unchanged."""
    if model.lm_head == "masked":
        return _masked(model, batch, settings, generator)
    if model.lm_head == "causal":
        return _next_tokens(model, batch)
    rows, columns = batch.mask.nonzero(as_tuple=True)
    return Exercise(batch.ids, batch.mask, rows, columns, batch.ids[rows, columns], model.embedding[:0])


def _next_tokens(model: LanguageModel, batch: Batch) -> Exercise:
    """Return an exercise to predict the next token at every position but the last of each row."""
    rows, columns = batch.mask[:, 1:].nonzero(as_tuple=True)
    goal = batch.ids[rows, columns + 1]
    return Exercise(batch.ids, batch.mask, rows, columns, goal, model.embedding[:0])


def _masked(
    model: LanguageModel, batch: Batch, settings: DistilSettings, generator: torch.Generator
) -> Exercise:
    """Return an exercise to restore a share of tokens: 80 % masked, 10 % replaced, 10 % left (Devlin et al. 2019)."""
    special = torch.isin(batch.ids, torch.tensor(model.tokenizer.all_special_ids))
    draw = torch.rand(batch.ids.shape, generator=generator)
    draw[special | ~batch.mask.bool()] = 1.0
    draw[0, draw[0].argmin()] = 0.0  # at least one position, or the loss would be empty
    hidden = draw < settings.masked_share
    rows, columns = hidden.nonzero(as_tuple=True)
    goal, kind = batch.ids[rows, columns], torch.rand(len(rows), generator=generator)
    replaced = torch.randint(len(model.tokenizer), goal.shape, generator=generator)
    mask_id = torch.tensor(model.tokenizer.mask_token_id)
    ids = batch.ids.clone()
    ids[rows, columns] = torch.where(kind < 0.8, mask_id, torch.where(kind < 0.9, replaced, goal))
    if settings.kl_at == "all":
        rows, columns = batch.mask.nonzero(as_tuple=True)
        goal = torch.where(hidden, batch.ids, NO_GOAL)[rows, columns]
    return Exercise(ids, batch.mask, rows, columns, goal, model.embedding[:0])


def in_pieces(proxy: LanguageModel, parts: Sequence[Exercise], run: Callable[[Sequence[Exercise]], T]) -> T:
    """Return `run(parts)`; where memory runs out, with each part in pieces of half as many tokens.

    The smaller size stays that of `proxy`. Without an LM head a part has no pieces: its texts are compared with one
    another.

    Raises:
        ModelError: a single sequence, or a part without an LM head, does not fit into memory.
    """
    size, split = proxy.size, proxy.lm_head != "none"
    while True:
        pieces = parts
        if split and size.fallen:
            pieces = [piece for part in parts for piece in part.pieces(size.tokens)]
        if (result := attempted(partial(run, pieces))) is not None:
            return result
        if not split:
            size.halve(1, "lower batch_tokens")
        size.halve(max(len(piece.ids) for piece in pieces), "lower sequence_tokens")
