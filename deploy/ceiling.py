"""The ceiling: a prompt tuned on the target itself, without privacy, until labelled text held out gains nothing more.

Only who has every client's text in one place can have it: the demo and the benchmarks.
"""

from collections.abc import Sequence

import torch

from client.private.records import PrivateRecords
from transfer.models.language_model import LanguageModel
from transfer.models.per_record_gradients import record_losses
from transfer.post.descent import settle
from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import goals


def ceiling(
    model: LanguageModel,
    task: Task,
    records: PrivateRecords,
    start: SoftPrompt,
    settings: TransferSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> SoftPrompt:
    """Return the prompt of `model` with the least loss on labelled records that it was not tuned on.

    It is sought in `settings.steps`, and in as many again, up to `settings.restarts` times, as long as they help.
    """
    encoder = model.encoder(task)
    labels = goals(records.labels, encoder.words)
    lines = encoder.encode(records.texts, records.answers)

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        if task.kind == "text":
            goal = model.collate([lines[index] for index in chosen]).goal
            return record_losses(logits, goal, labels, encoder.words)
        return record_losses(logits, None, labels[chosen], encoder.words)

    return settle(Problem.over(model, lines, encoder.words, losses, settings), start, on_step=on_step).prompt
