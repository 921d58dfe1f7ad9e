"""A preview of a proxy: does it carry a prompt to its target? Told by public text, before any budget is spent.

The target's own answers to public text, its prior removed, stand for labels. A prompt is taught them on the proxy and
transferred, as a campaign's would be; beside it stands what the target learns from them itself. Only texts that
taught nothing are counted.

Letters: N public texts, n of them held out, C classes.

Guarantee: no private record is read, so ε = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transfer.models.language_model import LanguageModel
from transfer.post.baselines import logit_arithmetic
from transfer.post.descent import settle
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.post.starts import STEPS, public_answers, public_start
from transfer.post.transfer import initial_prompt, transfer_problem
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


@dataclass(frozen=True, slots=True)
class Preview:
    """Shares in [0, 1] of n held-out public texts that are answered as the target's corrected answers.

    Attributes:
        texts: n.
        bare: by the bare target, its prior not removed.
        proxy: by the proxy behind the prompt taught on it.
        arithmetic: by the logits of both models added.
        transferred: by the target behind that prompt once transferred.
        target: by the target behind a prompt taught on itself: about the most that a transfer can reach.
    """

    texts: int
    bare: float
    proxy: float
    arithmetic: float
    transferred: float
    target: float

    @property
    def carried(self) -> float | None:
        """Part of what the target itself learns that the transfer keeps, None where it learns nothing."""
        gain = self.target - self.bare
        return (self.transferred - self.bare) / gain if gain > 0 else None


def preview(
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    length: int,
    settings: TransferSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> Preview:
    """Return how far `proxy` carries a prompt of `length` tokens to `target`, on public `texts`.

    Raises:
        UsageError: there are too few texts, or the settings do not fit the models.
        TaskError: the label words do not fit one of the tokenisers.
    """
    tick = counted(on_step, 2 * STEPS + settings.steps)
    answers = public_answers(target, task, texts)

    def taught(model: LanguageModel) -> SoftPrompt:
        return public_start(answers, model, task, texts, length, settings.seed, tick)

    ours = taught(proxy)
    problem = transfer_problem(ours, proxy, target, task, texts, settings)
    moved = settle(problem, initial_prompt(ours, proxy, target, task, settings), on_step=tick).prompt
    held_out = problem.held_out  # the same texts for both starts: their split has the same seed
    some, goal = [texts[index] for index in held_out], answers[held_out].argmax(dim=1)

    def agreement(logits: torch.Tensor) -> float:
        return (logits.argmax(dim=1) == goal).double().mean().item()

    return Preview(
        texts=len(some),
        bare=agreement(class_logits(target, task, some, None)),
        proxy=agreement(class_logits(proxy, task, some, ours)),
        arithmetic=agreement(logit_arithmetic(ours, proxy, target, task, some)),
        transferred=agreement(class_logits(target, task, some, moved)),
        target=agreement(class_logits(target, task, some, taught(target))),
    )
