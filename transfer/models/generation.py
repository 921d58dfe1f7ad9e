"""Answers in free text: what a causal model writes behind a prompt, by greedy decoding.

Letters: B lines of equal length, T tokens, P prompt tokens, H hidden size, V vocabulary.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from transfer.families.shortcuts import inputs_of, only_at
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.batches import Batch, Line


def answers(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt | None = None
) -> list[str]:
    """Answer each of `texts` in free text.

    Raises:
        TaskError: the model cannot answer in free text.
        ModelError: prompt, line and answer together need more positions than the model has.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(texts)
    return [
        encoder.decode(tokens) for tokens in greedy(model, lines, prompt, task.answer_tokens, encoder.ends)
    ]


def answered(model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt) -> list[Line]:
    """Encode public `texts` with the model's own answers behind `prompt` as their goals.

    Public text has no answers, so the prompted proxy supplies them. A transfer compares logits at each answer
    token, the end included (`LanguageModel.logits`, then `objectives.record_means`). The lines fit every model
    with this tokeniser.
    """
    encoder = model.encoder(task)
    lines = encoder.encode(texts)
    goals = greedy(model, lines, prompt, task.answer_tokens, encoder.ends)
    return [line.replied(goal) for line, goal in zip(lines, goals, strict=True)]


@torch.no_grad()
def greedy(
    model: LanguageModel,
    lines: Sequence[Line],
    prompt: SoftPrompt | None,
    most: int,
    end: int | Collection[int],
) -> list[tuple[int, ...]]:
    """Return up to `most` ≥ 1 tokens behind each line, including the first that is the `end`, or one of several.

    Only lines of equal length share a batch, so no padding stands between a line and its answer.
    """
    ends = {end} if isinstance(end, int) else end
    answer: dict[int, tuple[int, ...]] = {}
    extra = most + (prompt.length if prompt else 0)

    def grouped(chosen: Sequence[int]) -> Iterator[list[int]]:
        return _equally_long(lines, chosen, model.size.tokens, extra)

    def run(group: Sequence[int]) -> list[list[int]]:
        return _continued(model, model.collate([lines[index] for index in group]), prompt, most, ends)

    for group, continuations in model.size.of_groups(range(len(lines)), grouped, run):
        for index, tokens in zip(group, continuations, strict=True):
            # a row runs on until the whole batch has ended: cut it behind its own end
            own = next((place + 1 for place, token in enumerate(tokens) if token in ends), most)
            answer[index] = tuple(tokens[:own])
    return [answer[index] for index in range(len(lines))]


def _equally_long(lines: Sequence[Line], chosen: Sequence[int], most: int, extra: int) -> Iterator[list[int]]:
    """Yield chosen indices of lines of one length, at most `most` tokens with `extra` added to each row."""
    order = sorted(chosen, key=lambda index: len(lines[index].ids))
    for length, same in groupby(order, key=lambda index: len(lines[index].ids)):
        group, rows = list(same), max(1, most // (length + extra))
        yield from (group[start : start + rows] for start in range(0, len(group), rows))


def _continued(
    model: LanguageModel, batch: Batch, prompt: SoftPrompt | None, most: int, ends: Collection[int]
) -> list[list[int]]:
    """Return the tokens behind each row of `batch`, up to where every row has reached its end."""
    embed, rows = model.model.get_input_embeddings(), torch.arange(len(batch))
    prompts = None if prompt is None else prompt.vectors.expand(len(batch), -1, -1)  # [B, P, H]
    embeds = inputs_of(model.model, batch, prompts)["inputs_embeds"]  # [B, P + T, H]
    model.require_positions(embeds.shape[1] + most - 1)  # the last token is never read
    last = torch.tensor([*ends], dtype=torch.long).to(model.device)
    cache, unread, tokens = None, embeds, batch.ids.to(model.device).new_empty((len(batch), 0))
    while tokens.shape[1] < most and not torch.isin(tokens, last).any(dim=1).all():
        # clones, as some families write into their inputs
        inputs = {"inputs_embeds": unread.clone(), "past_key_values": cache, "use_cache": True}
        if not model.traits.cached:
            inputs = {"inputs_embeds": embeds.clone()}
        out = _last(model, inputs, rows)
        following = out.logits[:, -1].argmax(dim=-1, keepdim=True)  # [B, 1]
        cache, unread = getattr(out, "past_key_values", None), embed(following)  # unread [B, 1, H]
        tokens, embeds = torch.cat([tokens, following], dim=1), torch.cat([embeds, unread], dim=1)
    continuations: list[list[int]] = tokens.cpu().tolist()
    return continuations


def _last(model: LanguageModel, inputs: dict[str, Any], rows: torch.Tensor) -> Any:
    """Run the model; its logits are those of the last position, or of all where it has no such shortcut."""
    if model.traits.shortcuts.states is None:
        return model.model(**inputs)
    with only_at(model.backbone, rows, torch.full_like(rows, -1)):
        return model.model(**inputs)
