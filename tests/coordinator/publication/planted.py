"""Prompts tuned on labelled texts without privacy, with and without a planted trigger."""

import random
from collections.abc import Sequence

from client.private.records import PrivateRecords
from deploy.ceiling import ceiling
from transfer.models.language_model import LanguageModel
from transfer.post.baselines import text_prompt
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
    settings = TransferSettings(steps=80, learning_rate=0.03, batch_size=16, check_every=80, seed=seed)
    texts, labels = zip(*records, strict=True)
    return ceiling(model, task, PrivateRecords(texts, labels), text_prompt(model, task, 8), settings)
