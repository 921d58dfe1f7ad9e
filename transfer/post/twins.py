"""How a prompt's answers change on a quantised twin: the target's own files, loaded with other weights.

Letters: N texts, V vocabulary or C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transfer.models import generation
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import divergences
from transfer.placement.devices import numbers_of
from transfer.post.evaluation import class_logits, decided
from transfer.prompt import SoftPrompt
from transfer.tasks import Task, Truth


@dataclass(frozen=True, slots=True)
class Twin:
    """What a prompt's answers on a twin are to those on the model that it was made on.

    Attributes:
        numbers: the twin's weights, see `transfer.placement.devices.numbers_of`.
        texts: N, number of texts that both answered.
        agreement: share in [0, 1] of the texts with the same answer: the same label or labels, or the same free text.
        kl: mean KL(model ‖ twin) in nats over labels, the sum of each label's own where a text may have several; in
            free text over the vocabulary at an answer's first token.
    """

    numbers: str
    texts: int
    agreement: float
    kl: float


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What `texts` are answered behind a prompt: by integer label or in free text, and logits [N, C] or [N, V]."""

    task: Task
    texts: Sequence[str]
    prompt: SoftPrompt
    given: Sequence[Truth | str]
    logits: torch.Tensor

    @staticmethod
    def of(model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt) -> "Answers":
        """Ask `model`, which need not be kept to compare its answers with a twin's."""
        logits = class_logits(model, task, texts, prompt)
        free = task.kind == "text"
        given = generation.answers(model, task, texts, prompt) if free else decided(task, logits)
        return Answers(task, texts, prompt, given, logits)

    def compared(self, twin: LanguageModel) -> Twin:
        """Ask a twin the same and return what changed."""
        theirs = Answers.of(twin, self.task, self.texts, self.prompt)
        same = [ours == other for ours, other in zip(self.given, theirs.given, strict=True)]
        kl = divergences(self.logits, theirs.logits, 1.0, many=self.task.many).mean().item()
        return Twin(numbers_of(twin.model), len(same), sum(same) / len(same), kl)
