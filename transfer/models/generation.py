"""Answers in free text: what a causal model writes behind a prompt, the likeliest token each time.

Letters: B lines of equal length, T tokens, P prompt tokens, H hidden size, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from transfer.families.shortcuts import only_at
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.batches import FORWARD_TOKENS, Line


def answers(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt | None = None
) -> list[str]:
    """The answer in free text to each of `texts`.

    Raises:
        TaskError: the model cannot answer in free text.
        ModelError: prompt, line and answer together are longer than the model has positions.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(texts)
    return [
        encoder.decode(tokens) for tokens in greedy(model, lines, prompt, task.answer_tokens, encoder.end)
    ]


def answered(model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt) -> list[Line]:
    """Lines of public `texts` with the model's own answers behind `prompt` as their goals.

    Public text has no answers, so the prompted proxy's stand for them: a transfer compares logits at each of
    their tokens, the end included (`LanguageModel.logits`, then `objectives.record_means`). The lines serve
    every model with this tokeniser.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(texts)
    told = greedy(model, lines, prompt, task.answer_tokens, encoder.end)
    return [
        Line((*line.ids, *tokens[:-1]), line.answer, tokens) for line, tokens in zip(lines, told, strict=True)
    ]


@torch.no_grad()
def greedy(
    model: LanguageModel, lines: Sequence[Line], prompt: SoftPrompt | None, most: int, end: int
) -> list[tuple[int, ...]]:
    """Up to `most` ≥ 1 tokens behind each line, `end` included where it was reached.

    Lines of one length share a batch: there is no padding, so none can come between a line and its answer.
    """
    found: dict[int, tuple[int, ...]] = {}
    for group in _equally_long(lines, most + (prompt.length if prompt else 0)):
        ids = torch.tensor([lines[index].ids for index in group])
        for index, tokens in zip(group, _continued(model, ids, prompt, most, end), strict=True):
            found[index] = tuple(tokens[: tokens.index(end) + 1] if end in tokens else tokens)
    return [found[index] for index in range(len(lines))]


def _equally_long(lines: Sequence[Line], extra: int) -> Iterator[list[int]]:
    """Indices of lines of the same length, at most `FORWARD_TOKENS` tokens with `extra` a row."""
    order = sorted(range(len(lines)), key=lambda index: len(lines[index].ids))
    for length, same in groupby(order, key=lambda index: len(lines[index].ids)):
        group, rows = list(same), max(1, FORWARD_TOKENS // (length + extra))
        yield from (group[start : start + rows] for start in range(0, len(group), rows))


def _continued(
    model: LanguageModel, ids: torch.Tensor, prompt: SoftPrompt | None, most: int, end: int
) -> list[list[int]]:
    """The next tokens of rows `ids` [B, T], until every row has met its end."""
    embed, rows = model.model.get_input_embeddings(), torch.arange(len(ids))
    embeds = embed(ids)
    if prompt is not None:
        embeds = torch.cat([prompt.vectors.to(embeds).expand(len(ids), -1, -1), embeds], dim=1)
    model.require_positions(embeds.shape[1] + most - 1)
    cache, unread, tokens = None, embeds, ids.new_empty((len(ids), 0))
    while tokens.shape[1] < most and not (tokens == end).any(dim=1).all():
        # clones, as some families write into what they are given
        inputs = {"inputs_embeds": unread.clone(), "past_key_values": cache, "use_cache": True}
        if not model.traits.cached:
            inputs = {"inputs_embeds": embeds.clone()}
        out = _last(model, inputs, rows)
        following = out.logits[:, -1].argmax(dim=-1, keepdim=True)
        cache, unread = getattr(out, "past_key_values", None), embed(following)
        tokens, embeds = torch.cat([tokens, following], dim=1), torch.cat([embeds, unread], dim=1)
    found: list[list[int]] = tokens.tolist()
    return found


def _last(model: LanguageModel, inputs: dict[str, Any], rows: torch.Tensor) -> Any:
    """The model's output, its logits those of the last position, or of all where the shortcut is not taken."""
    if model.traits.shortcuts.states is None:
        return model.model(**inputs)
    with only_at(model.backbone, rows, torch.full_like(rows, -1)):
        return model.model(**inputs)
