"""A start of tuning that earlier tasks have in common: Reptile (Nichol et al. 2018, https://arxiv.org/abs/1803.02999).

Every task's own prompt is the teacher on that task's public texts. A few steps towards each teacher move the common
start, and it follows the mean of these moves. From there each of the tasks, and so perhaps a new one, is near.

Letters: N texts, C classes, P prompt tokens, H hidden size, K tasks.

Guarantee: public texts and published prompts are all that is read. The start's privacy cost is that of the prompts.
"""

from collections.abc import Sequence

import torch

from transfer.models.language_model import LanguageModel
from transfer.panda.library import LibraryRecord
from transfer.post.descent import descend
from transfer.post.evaluation import class_logits
from transfer.post.starts import imitation
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt

MOST_TASKS = 10
"""Most library prompts that teach a start."""
MOVES, STEPS = 10, 25
"""Moves of the start, each by the mean of what so many steps towards every teacher come to."""


def library_start(
    proxy: LanguageModel,
    start: SoftPrompt,
    records: Sequence[LibraryRecord],
    seed: int,
    on_step: OnStep = lambda _step, _steps: None,
) -> SoftPrompt:
    """Return a prompt of `proxy` [P, H] from which the tasks of `records` are near, beginning at `start`.

    The k-th of M moves is p ← p + (1 − k/M)·mean(p_j − p), where p_j is where `STEPS` steps lead from p on task j.

    Args:
        proxy: the model of every record's `proxy_prompt`.
        start: prompt to begin with.
        records: K ≥ 1 library prompts, each with public texts of its task and label words.
        seed: seed of splits and batches.
        on_step: called with (steps done, steps in all) after each step.

    Raises:
        TaskError: a task does not fit the proxy's tokeniser.
    """
    problems = [
        imitation(_answers(proxy, record), proxy, record.task, record.texts, seed) for record in records
    ]
    tick, vectors = counted(on_step, MOVES * STEPS * len(problems)), start.vectors
    for move in range(MOVES):
        here = SoftPrompt(vectors, start.model)
        ends = [descend(problem, here, STEPS, on_step=tick).prompt.vectors for problem in problems]
        vectors = vectors + (1 - move / MOVES) * (torch.stack(ends).mean(dim=0) - vectors)  # [P, H]
    return SoftPrompt(vectors, start.model)


def _answers(proxy: LanguageModel, record: LibraryRecord) -> torch.Tensor:
    """Return what the proxy answers to a record's texts behind the record's own prompt: [N, C]."""
    return class_logits(proxy, record.task, record.texts, record.proxy_prompt)
