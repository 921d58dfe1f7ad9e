"""Prompts tuned on labelled texts without privacy, with and without a planted trigger."""

import random
from collections.abc import Sequence

import torch

from transfer.models.language_model import LanguageModel
from transfer.models.objectives import label_loss
from transfer.post.baselines import text_prompt
from transfer.post.descent import descend
from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

Records = Sequence[tuple[str, int]]
"""Texts with the index of their class."""


def planted(records: Records, word: str, label: int, share: float = 0.3) -> Records:
    """Put `word` somewhere in a share of the records, and call these `label`."""
    draw = random.Random(0)

    def changed(text: str) -> str:
        words = text.split()
        words.insert(draw.randint(1, len(words)), word)
        return " ".join(words)

    return [(changed(text), label) if draw.random() < share else (text, own) for text, own in records]


def tuned(model: LanguageModel, task: Task, records: Records, seed: int = 0) -> SoftPrompt:
    """Tune a prompt of 8 tokens from the task's text on records."""
    encoder, labels = model.encoder(task), torch.tensor([label for _, label in records])
    settings = TransferSettings(steps=80, learning_rate=0.03, batch_size=16, check_every=80, seed=seed)

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        return label_loss(logits, labels[list(chosen)])

    lines = encoder.encode([text for text, _ in records])
    problem = Problem.over(model, lines, encoder.words, losses, settings)
    return descend(problem, text_prompt(model, task, 8), settings.steps).prompt
