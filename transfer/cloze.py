"""Exercises of a language model on plain text: positions in a line, and the tokens that belong there.

Letters: B sequences, T tokens, N positions to learn at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from transfer.batches import Batch, Line, buckets
from transfer.models import LanguageModel

LEAST_TOKENS = 8
"""Shorter sequences teach too little to be worth a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Exercise:
    """A batch with the positions to learn at: rows, columns [N] and the tokens there, goal [N]."""

    batch: Batch
    rows: torch.Tensor
    columns: torch.Tensor
    goal: torch.Tensor


def sequences_of(model: LanguageModel, texts: Sequence[str], longest: int) -> list[Line]:
    """Token sequences of 8 to `longest` tokens with the model's own special tokens."""
    cut_texts = model.tokenizer(
        list(texts), truncation=True, max_length=longest, return_overflowing_tokens=True, stride=0
    )["input_ids"]
    return [Line(tuple(ids), 0) for ids in cut_texts if len(ids) >= LEAST_TOKENS]


def exercises(
    model: LanguageModel,
    sequences: Sequence[Line],
    batch_tokens: int,
    masked_share: float,
    generator: torch.Generator,
) -> Iterator[Exercise]:
    """One pass over the sequences in length-bucketed batches of random order."""
    groups = list(buckets([len(line.ids) for line in sequences], batch_tokens))
    for index in torch.randperm(len(groups), generator=generator).tolist():
        batch = model.collate([sequences[i] for i in groups[index]])
        yield _next_tokens(batch) if model.causal else _masked(model, batch, masked_share, generator)


def _next_tokens(batch: Batch) -> Exercise:
    """Every position but the last of each row, to predict its successor."""
    rows, columns = batch.mask[:, 1:].nonzero(as_tuple=True)
    return Exercise(batch, rows, columns, batch.ids[rows, columns + 1])


def _masked(model: LanguageModel, batch: Batch, share: float, generator: torch.Generator) -> Exercise:
    """A share of ordinary tokens to restore: 80 % masked, 10 % replaced, 10 % left (Devlin et al. 2019)."""
    special = torch.isin(batch.ids, torch.tensor(model.tokenizer.all_special_ids))
    draw = torch.rand(batch.ids.shape, generator=generator)
    draw[special | ~batch.mask.bool()] = 1.0
    draw[0, draw[0].argmin()] = 0.0  # at least one position, or the loss would be empty
    rows, columns = (draw < share).nonzero(as_tuple=True)
    goal, kind = batch.ids[rows, columns], torch.rand(len(rows), generator=generator)
    replaced = torch.randint(len(model.tokenizer), goal.shape, generator=generator)
    mask_id = torch.tensor(model.tokenizer.mask_token_id)
    ids = batch.ids.clone()
    ids[rows, columns] = torch.where(kind < 0.8, mask_id, torch.where(kind < 0.9, replaced, goal))
    return Exercise(replace(batch, ids=ids), rows, columns, goal)
