"""PANDA as its paper has it, for comparison only: one model, and labels in the hands of whoever trains.

Zhong et al. 2022 (https://arxiv.org/abs/2208.10160): a fresh prompt of the target learns the labelled new task,
and beside it the logits of a frozen teacher: another task's prompt that was tuned on the new task before. Unlike
the published code the teacher's logits are constants, computed once in eval mode, the distance is averaged once
however large a batch is, and a negative similarity counts for nothing.
"""

from collections.abc import Sequence

import torch

from transfer.models.language_model import LanguageModel
from transfer.models.objectives import label_loss
from transfer.post.descent import Transferred, descend
from transfer.post.problem import Problem, check_enough
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

WEIGHT = 0.1
"""λ; the published code has 0.1 and types another 0.1 in place of the similarity."""


def panda_losses(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher: torch.Tensor,
    similarity: float,
    weight: float = WEIGHT,
) -> torch.Tensor:
    """CE(y, z) + λ·max(0, sim)·mean_c (z − z_T)² of each text: logits [B, C], labels [B], teacher [B, C] → [B]."""
    distance = (logits - teacher).square().mean(dim=-1)
    return label_loss(logits, labels) + weight * max(0.0, similarity) * distance


def paper_transfer(
    start: SoftPrompt,
    teacher: SoftPrompt,
    similarity: float,
    target: LanguageModel,
    task: Task,
    records: Sequence[tuple[str, int]],
    settings: TransferSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> Transferred:
    """Tune `start` on labelled (text, label) `records`, taught by `teacher`; both are prompts of the target.

    Of the settings only those of the descent count: loss and space of the paper are fixed.

    Raises:
        UsageError: too few records.
        TaskError: the label words do not fit the tokeniser.
    """
    texts = [text for text, _ in records]
    check_enough(texts)
    encoder = target.encoder(task)
    lines = encoder.encode(texts)
    answers = target.answer_logits(lines, teacher, encoder.words)
    labels = torch.tensor([label for _, label in records])

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        index = list(chosen)
        return panda_losses(logits, labels[index], answers[index], similarity)

    problem = Problem.over(target, lines, encoder.words, losses, settings)
    return descend(problem, start, settings.steps, on_step=on_step)
