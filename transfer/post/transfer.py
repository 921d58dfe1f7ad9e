"""Cross-model transfer: a prompt tuned on the proxy becomes a prompt of the target (POST stage 3).

Letters: N public texts, P prompt tokens, H hidden size, V vocabulary or C classes.

A transfer uses public text without its labels. The proxy's logits with and without the prompt, and the target's
without one, are constant: they are computed once per text, as far as the loss needs them. A step is then one forward
and backward pass of the target. Held-out public text chooses the best step.

Guarantee: a transfer reads no private record. Its result is post-processing of the released prompt, so it costs no ε.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain
from typing import Protocol

import torch
from torch import nn

from transfer.models.generation import answered
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import divergences, record_means, transfer_losses
from transfer.post.alpha import chosen_alpha
from transfer.post.compatibility import check_possible
from transfer.post.problem import Problem
from transfer.post.projection import projected
from transfer.post.references import on_disk
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import within

BETAS = 0.9, 0.95
"""Adam's β. Gradients shrink as the loss falls; with the usual 0.999 the first ones would slow all later steps."""
AVERAGED = 4
"""The last 1/4 of the iterates are averaged: that takes the noise of batches out of them (Polyak & Juditsky 1992)."""
FLAT = 0.01
"""Share of the held-out loss that as many steps again have to save, or there is no further restart."""


@dataclass(frozen=True, slots=True, eq=False)
class Transferred:
    """A prompt of the target, and how it was chosen.

    Attributes:
        prompt: the prompt of the best step.
        start_loss: held-out loss before the first step.
        held_out_loss: held-out loss of `prompt`.
        best_step: the step of `prompt`; 0 is the start.
        settings: settings of the transfer, with a number for α and the number of formats that there were.
    """

    prompt: SoftPrompt
    start_loss: float
    held_out_loss: float
    best_step: int
    settings: TransferSettings


class Guide(Protocol):
    """A second loss beside the problem's own, with a weight that may change from step to step."""

    def losses(self, logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """Return the loss [B] of each chosen text; see `transfer.post.problem.Losses`."""

    def weight(self, done: float, task: torch.Tensor, own: torch.Tensor) -> float:
        """Return the weight ≥ 0 of the guide's gradient `own` [P, H]; the problem's is `task` [P, H].

        `done` in (0, 1] is the share of steps taken.
        """


def transfer(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
    on_step: OnStep = lambda _step, _steps: None,
    start: SoftPrompt | None = None,
) -> Transferred:
    """Transfer `prompt` from `proxy` to `target` on public `texts`, starting at `start` or as the settings say.

    Raises:
        UsageError: there are too few texts, the settings compare different vocabularies, or they do not fit the task.
        TaskError: the label words do not fit one of the tokenisers.
    """
    problem = transfer_problem(prompt, proxy, target, task, texts, settings)
    start = start or initial_prompt(prompt, proxy, target, task, settings)
    return settle(problem, start, on_step=on_step)


def transfer_problem(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
) -> Problem:
    """Return the problem that `transfer` solves: POST's loss, with its constant forward passes done.

    There are three constant passes, or one at α = 0. The settings of the problem have a number for α.

    Raises:
        UsageError, TaskError: see `transfer`.
    """
    check_possible(proxy, target, task, texts, settings)
    ours, theirs = proxy.encoder(task), target.encoder(task)
    if task.kind == "text":  # compare at every token of the prompted proxy's own answer
        proxy_lines = lines = answered(proxy, task, texts, prompt)
    else:
        proxy_lines, lines = ours.encode(texts), theirs.encode(texts)
    labels = settings.space == "labels"
    our_words, their_words = (ours.words, theirs.words) if labels else (None, None)
    kept = torch.empty if labels else on_disk
    proxy_prompted = proxy.answer_logits(proxy_lines, prompt, our_words, kept)  # [N, C] or [N, V]
    alpha = 0.0
    if settings.alpha:  # at α = 0 the loss needs no answer without a prompt
        proxy_bare = proxy.answer_logits(proxy_lines, None, our_words, kept)
        target_bare = target.answer_logits(lines, None, their_words, kept)
        alpha = chosen_alpha(settings.alpha, proxy_prompted, target_bare)
    temperature, summed = settings.temperature, settings.imitate == "sum"
    compared = partial(transfer_losses, alpha=alpha, temperature=temperature, summed=summed, many=task.many)
    settings = replace(settings, alpha=alpha)

    begins = [0, *accumulate(line.reads for line in lines)]  # first row of each text in the constants

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        # the constants' rows of the chosen texts, in the order of `logits`
        index = list(chain.from_iterable(range(begins[text], begins[text + 1]) for text in chosen))
        logits = within(logits, proxy_prompted.dtype)
        if alpha:
            constants = (each[index].float() for each in (target_bare, proxy_prompted, proxy_bare))
            values = compared(logits, *constants)
        else:
            values = divergences(proxy_prompted[index].float(), logits, temperature, many=task.many)
        return record_means(values, torch.tensor([lines[text].reads for text in chosen]))

    return Problem.over(target, lines, their_words, losses, settings).in_formats(theirs, texts)


def descend(
    problem: Problem,
    start: SoftPrompt,
    steps: int,
    guide: Guide | None = None,
    on_step: OnStep = lambda _step, _steps: None,
) -> Transferred:
    """Minimise the problem's loss from `start` in `steps` ≥ 0 steps of Adam; return the best on held-out texts.

    The mean of the last quarter of the iterates competes as well, as the last step.
    """
    settings = problem.settings
    vectors = nn.Parameter(start.vectors.clone())  # [P, H], a copy: the descent must not change `start`
    optimizer = torch.optim.Adam([vectors], lr=settings.learning_rate, betas=BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    best, best_step = vectors.detach().clone(), 0  # step 0 is the start, which may stay the best
    best_loss = start_loss = problem.held_out_loss(best)
    tail, total = steps // AVERAGED, torch.zeros_like(best)  # the last iterates, and their sum [P, H]
    for step, chosen in zip(range(1, steps + 1), problem.batches(), strict=False):
        vectors.grad = _gradient(problem, vectors, chosen, guide, step / steps)
        optimizer.step()
        schedule.step()
        if step > steps - tail:
            total += vectors.detach()
        # chosen by texts that no step trains on; the trained loss falls even where the prompt overfits
        if step % settings.check_every == 0 or step == steps:
            loss = problem.held_out_loss(vectors)
            if loss < best_loss:
                best, best_loss, best_step = vectors.detach().clone(), loss, step
        on_step(step, steps)
    if tail and (loss := problem.held_out_loss(total / tail)) < best_loss:
        best, best_loss, best_step = total / tail, loss, steps
    return Transferred(SoftPrompt(best, problem.target.ref), start_loss, best_loss, best_step, settings)


def settle(
    problem: Problem,
    start: SoftPrompt,
    guide: Guide | None = None,
    on_step: OnStep = lambda _step, _steps: None,
) -> Transferred:
    """Descend as the settings say, and again from the result until the held-out loss is flat.

    A `guide` guides the first descent alone. Restarts: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983.
    """
    steps, most = problem.settings.steps, problem.settings.steps * (1 + problem.settings.restarts)
    tick = counted(on_step, most)
    best = descend(problem, start, steps, guide, tick)
    for done in range(steps, most, max(1, steps)):
        before = best.held_out_loss
        more = descend(problem, best.prompt, steps, None, tick)
        if more.best_step:
            best = replace(more, start_loss=best.start_loss, best_step=done + more.best_step)
        if not best.held_out_loss < (1 - FLAT) * before:
            break
    return best


def _gradient(
    problem: Problem, vectors: torch.Tensor, chosen: Sequence[int], guide: Guide | None, done: float
) -> torch.Tensor:
    if guide is None:
        return problem.gradients(vectors, chosen)[0]
    task, own = problem.gradients(vectors, chosen, guide.losses)  # two of [P, H], from one forward pass
    return task + guide.weight(done, task, own) * own


def held_out_losses(
    candidates: Mapping[str, SoftPrompt],
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
) -> dict[str, float]:
    """Return the held-out loss of each candidate prompt of the target, on the texts that `transfer` holds out.

    Raises:
        UsageError, TaskError: see `transfer`.
    """
    problem = transfer_problem(prompt, proxy, target, task, texts, settings)
    return {name: problem.held_out_loss(candidate.vectors) for name, candidate in candidates.items()}


def initial_prompt(
    prompt: SoftPrompt, proxy: LanguageModel, target: LanguageModel, task: Task, settings: TransferSettings
) -> SoftPrompt:
    """Return the prompt a transfer starts from; see `TransferSettings.start` and `length`.

    Rows beyond the proxy's are the task's text.

    Raises:
        UsageError: the vocabularies share too few tokens for a projection.
    """
    # a head's rows live in state space: only the prompt's own [P, H] are projected, the head begins at 0
    ours = prompt.length - task.head_rows
    length = settings.length or ours
    words = target.text_prompt(task.init_text, length).longer(task.head_rows).vectors
    first = min(ours, length)  # rows that the proxy's prompt gives
    if settings.start == "projected":
        words[:first] = projected(SoftPrompt(prompt.vectors[:first], prompt.model), proxy, target).vectors
    elif settings.start == "prompt" and prompt.width == target.width:
        words[:first], words[length:] = prompt.vectors[:first], prompt.vectors[ours:]
    return SoftPrompt(words, target.ref)
