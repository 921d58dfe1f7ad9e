"""Descent: the steps by which a prompt of the target solves a problem.

Letters: P prompt tokens, H hidden size, V vocabulary or C classes, B texts of a step.

A step is one forward and backward pass of the target. Held-out text chooses the best one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt

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
    steps, most = problem.settings.steps, problem.settings.most_steps
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
