"""Prompts of public text alone: a start of tuning, or the best that costs no privacy.

What a bare model answers, its prior removed, is taught to a prompt: of the proxy, so that tuning does not spend its
budget on what is public; or of the target itself, which a transferred prompt has to beat. (GRAM meta-learns a start
from unlabelled data: Li et al. 2023, https://arxiv.org/abs/2303.06571.)

Letters: N texts, C classes, P prompt tokens, H hidden size.

Guarantee: no private record is read, so ε = 0.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from transfer.models.language_model import LanguageModel
from transfer.models.objectives import divergences
from transfer.post.baselines import balanced, text_prompt
from transfer.post.descent import descend
from transfer.post.evaluation import class_logits
from transfer.post.problem import Losses, Problem, check_enough
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import within

STEPS = 250
"""Steps of 8 texts: a quarter of a transfer, and as many as the start was measured with."""

BARE, PRIOR, PUBLIC_START = "bare", "public prior", "public start"
"""Answers that cost no privacy: the bare target's, the same without its prior, and behind a prompt taught these."""


def public_answers(target: LanguageModel, task: Task, texts: Sequence[str]) -> torch.Tensor:
    """Return what the bare target answers to public texts, its prior on them removed: [N, C].

    Raises:
        UsageError: there are too few texts.
        TaskError: the label words do not fit the tokeniser.
    """
    check_enough(texts)
    return balanced(class_logits(target, task, texts, None))


def public_start(
    answers: torch.Tensor,
    model: LanguageModel,
    task: Task,
    texts: Sequence[str],
    length: int,
    seed: int,
    on_step: OnStep = lambda _step, _steps: None,
    steps: int = STEPS,
) -> SoftPrompt:
    """Return a prompt of `model` [P, H] behind which it gives the `answers` [N, C] to public `texts`.

    In `steps` ≥ 1 it minimises the mean of T²·KL(softmax(answers/T) ‖ softmax(z(p, x)/T)), from the task's text;
    held-out texts choose the step. `model` may be the proxy, and the answers the target's.
    """
    problem = imitation(answers, model, task, texts, seed)
    return descend(problem, text_prompt(model, task, length), steps, on_step=on_step).prompt


def taught(problem: Problem, start: SoftPrompt, on_step: OnStep = lambda _step, _steps: None) -> SoftPrompt:
    """Return the prompt [P, H] that a problem's trained texts teach what the bare target answers, its prior removed.

    It begins at `start` [P, H] and has no more steps than the transfer. The problem must compare class logits.
    """
    answers = balanced(problem.answers(None))  # [N, C]
    free = replace(problem, losses=_imitating(answers, problem.settings.temperature))
    return descend(free, start, min(STEPS, problem.settings.steps), on_step=on_step).prompt


def begun(problem: Problem, start: SoftPrompt, on_step: OnStep = lambda _step, _steps: None) -> SoftPrompt:
    """Return the prompt that a problem's descent begins with: `start`, taught first if the settings say so.

    No descent ends with more loss on held-out text than it began with, so its prompt is then as good as the free one.
    """
    return taught(problem, start, on_step) if problem.settings.start == "public" else start


def first_steps(settings: TransferSettings) -> int:
    """Return the number of steps that `begun` takes."""
    return min(STEPS, settings.steps) if settings.start == "public" else 0


def free_losses(problem: Problem) -> dict[str, float]:
    """Return the held-out loss of the bare target's answers, with and without their prior.

    The problem must compare class logits.
    """
    bare, held_out = problem.answers(None), problem.held_out  # [N, C]
    found = {BARE: bare, PRIOR: balanced(bare)}
    return {name: problem.losses(z[held_out], held_out).mean().item() for name, z in found.items()}


def imitation(
    answers: torch.Tensor, model: LanguageModel, task: Task, texts: Sequence[str], seed: int
) -> Problem:
    """Return the problem of a prompt behind which `model` gives the `answers` [N, C] to N `texts`."""
    settings, encoder = TransferSettings(alpha=0.0, start="text", seed=seed), model.encoder(task)
    losses = _imitating(answers, settings.temperature)
    return Problem.over(model, encoder.encode(texts), encoder.words, losses, settings)


def _imitating(answers: torch.Tensor, temperature: float) -> Losses:
    """Return the loss of giving `answers` [N, C] to the N texts."""
    return lambda logits, chosen: divergences(answers[chosen], within(logits, answers.dtype), temperature)
