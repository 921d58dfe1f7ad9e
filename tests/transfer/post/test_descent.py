"""A descent starts again until its loss is flat, and its last iterates compete as one."""

from dataclasses import replace

import torch

from tests.transfer.post.transfers import QUICK, TEXTS
from transfer.post.descent import descend
from transfer.post.problem import Problem
from transfer.post.transfer import transfer, transfer_problem


def test_restarts_go_on_from_the_result_until_the_loss_is_flat(prompt, proxy, target, tiny_task):
    once = transfer(prompt, proxy, target, tiny_task, TEXTS, QUICK)
    told = []
    settings = replace(QUICK, restarts=2)
    again = transfer(prompt, proxy, target, tiny_task, TEXTS, settings, lambda *step: told.append(step))
    assert again.held_out_loss < once.held_out_loss
    assert again.start_loss == once.start_loss
    assert again.best_step > QUICK.steps
    assert told == [(step, 3 * QUICK.steps) for step in range(1, len(told) + 1)]
    flat = transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, restarts=50, steps=20))
    assert flat.best_step < 51 * 20


def test_the_mean_of_the_last_quarter_of_the_iterates_competes(prompt, proxy, target, tiny_task, monkeypatch):
    problem = transfer_problem(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, check_every=99))
    passed, measured, gradients = [], [], Problem.gradients

    def noted(problem, vectors, *others):
        passed.append(vectors.detach().clone())  # the iterate of the step before
        return gradients(problem, vectors, *others)

    def loss(_problem, vectors):
        measured.append(vectors.detach().clone())
        return -len(measured)  # what is measured last is the best

    monkeypatch.setattr(Problem, "gradients", noted)
    monkeypatch.setattr(Problem, "held_out_loss", loss)
    found = descend(problem, target.text_prompt(tiny_task.init_text, 4), 8)
    _start, last, mean = measured
    torch.testing.assert_close(mean, (passed[7] + last) / 2)
    assert torch.equal(found.prompt.vectors, mean)
    assert (found.best_step, found.held_out_loss) == (8, -3)
