"""Cross-model transfer: a prompt tuned on the proxy becomes a prompt of the target (POST stage 3).

Letters: N public texts, P prompt tokens, H hidden size, V vocabulary or C classes.

A transfer uses public text without its labels. The proxy's logits with and without the prompt, and the target's
without one, are constant: they are computed once per text, as far as the loss needs them. A step is then one forward
and backward pass of the target. Held-out public text chooses the best step.

Guarantee: a transfer reads no private record. Its result is post-processing of the released prompt, so it costs no ε.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain

import torch

from transfer.models.generation import answered
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import divergences, record_means, transfer_losses
from transfer.models.on_disk import on_disk
from transfer.post.alpha import chosen_alpha
from transfer.post.compatibility import check_possible
from transfer.post.descent import Transferred, settle
from transfer.post.problem import Problem
from transfer.post.projection import projected
from transfer.post.settings import TransferSettings
from transfer.post.starts import begun, first_steps
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.readout import within


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
    tick = counted(on_step, settings.most_steps + (0 if start else first_steps(settings)))
    start = start or begun(problem, initial_prompt(prompt, proxy, target, task, settings), tick)
    return settle(problem, start, on_step=tick)


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
    alpha, target_bare = 0.0, None
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
        if target_bare is not None and alpha:
            constants = (each[index].float() for each in (target_bare, proxy_prompted, proxy_bare))
            values = compared(logits, *constants)
        else:
            values = divergences(proxy_prompted[index].float(), logits, temperature, many=task.many)
        return record_means(values, torch.tensor([lines[text].reads for text in chosen]))

    problem = Problem.over(target, lines, their_words, losses, settings)
    return replace(problem, bare=target_bare).in_formats(theirs, texts)


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

    Rows beyond the proxy's are the task's text. So are all of them for the start "public", which `begun` teaches.

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
