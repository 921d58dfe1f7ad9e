"""PANDA without labels: a library prompt starts and teaches a transfer, and stays only if held-out text says so.

Letters: N public texts, n of them held out, P prompt tokens, H hidden size, C classes, K library prompts.

PANDA (Zhong et al. 2022, https://arxiv.org/abs/2208.10160) distils from a prompt of another task that was tuned
on the new task's labels. Here labels are private, so POST's answers stand where labels did: a library prompt is
carried a few steps towards the new task, and its answers then teach beside the proxy's, as far as both gradients
agree and less and less. Choosing and judging use public text alone, and the library only ever wins by more than
chance; otherwise the plain transfer is returned, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch

from transfer.models.objectives import divergences
from transfer.panda.library import (
    NULL,
    Candidate,
    Choice,
    Comparison,
    LibraryRecord,
    Scores,
    TransferInput,
    shortlist,
)
from transfer.panda.scores import (
    alignment,
    answer_states,
    cosine,
    descent_cosine,
    effect_cosines,
    leep,
    task_similarity,
)
from transfer.post.problem import Problem
from transfer.post.transfer import descend, initial_prompt
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt

ANCHORS = 256
"""Public texts the scores are taken on, none of them held out."""
OWN_TEXTS = 100
"""Examples of a task behind PANDA's own score."""
PROBE = (10, 3)
"""Library prompts in each round of the probe; the best after the last is the finalist.

A few steps tell more than any score (PANDA's own tables), so in a small library none is left out by its scores.
"""
PROBE_STEPS = 60
TEACHER_WEIGHT = 1.0
"""λ₀, the most a library teacher weighs beside the proxy."""
MOMENTUM = 0.9
CONSTANT_SHARE = 0.1


class LibraryTeacher:
    """T²·KL to the cached answers of a frozen library prompt, [N, C or V], as far as it agrees with the task.

    The weight of its gradient is λ₀·ŝ·max(0, cos(g_task, g_library))·fade: the cosine is averaged over steps, and
    fade is 1 for a tenth of them and then falls to 0, so the task alone has the last word.
    """

    def __init__(self, answers: torch.Tensor, temperature: float, strength: float) -> None:
        self.answers, self.temperature = answers, temperature
        self.most = TEACHER_WEIGHT * strength
        self.agreement: float | None = None

    def losses(self, logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """See `transfer.post.problem.Losses`."""
        return divergences(self.answers[list(chosen)], logits, self.temperature)

    def weight(self, done: float, task: torch.Tensor, own: torch.Tensor) -> float:
        """See `transfer.post.transfer.Guide`."""
        now = cosine(task, own)
        before = now if self.agreement is None else self.agreement
        self.agreement = MOMENTUM * before + (1 - MOMENTUM) * now
        fade = min(1.0, (1 - done) / (1 - CONSTANT_SHARE))
        return self.most * max(0.0, self.agreement) * fade


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """A candidate after some steps of the transfer, and its held-out loss after each round of the probe."""

    prompt: SoftPrompt
    losses: tuple[float, ...] = ()


def transfer_with_library(
    new: TransferInput,
    problem: Problem,
    records: Sequence[LibraryRecord],
    on_step: OnStep = lambda _step, _steps: None,
) -> Choice:
    """Solve the newcomer's problem twice, without the library and with the best of it, and keep what is better."""
    settings = problem.settings
    start = initial_prompt(new.prompt, new.proxy, new.target, new.task, settings.start)
    obstacles = {item.name: item.obstacle(new.target.ref, new.campaign, new.guarantee) for item in records}
    eligible = {item.name: item for item in records if obstacles[item.name] is None}
    tick = _ticker(on_step, _all_steps(len(eligible), settings.steps))
    plain = descend(problem, start, settings.steps, on_step=tick)
    if not eligible:
        return Choice(plain, plain, _table(obstacles, {}, {}))
    found = score(new, problem, start, list(eligible.values()))
    starts = {NULL: start} | {name: eligible[name].prompt for name in shortlist(found)}
    probed, finalist = probe(problem, starts, tick)
    begin = min((NULL, finalist), key=lambda name: probed[name].losses[-1])
    answers = problem.answers(probed[finalist].prompt)
    teacher = LibraryTeacher(answers, settings.temperature, found[finalist].strength)
    taught = descend(problem, starts[begin], settings.steps, teacher, tick)
    without, used = (problem.losses_of(item.prompt.vectors, problem.held_out) for item in (plain, taught))
    comparison = Comparison.of(without, used)
    kept = taught if comparison.won else plain
    return Choice(kept, plain, _table(obstacles, found, probed), finalist, begin, comparison)


def _table(
    obstacles: Mapping[str, str | None], scores: Mapping[str, Scores], probed: Mapping[str, Probed]
) -> tuple[Candidate, ...]:
    losses = {name: item.losses for name, item in probed.items()}
    return tuple(
        Candidate(name, obstacles.get(name), scores.get(name), losses.get(name, ()))
        for name in (NULL, *obstacles)
    )


def _ticker(on_step: OnStep, steps: int) -> OnStep:
    """Counts the steps of several descents as those of one."""
    done = count(1)
    return lambda _step, _steps: on_step(next(done), steps)


def _all_steps(eligible: int, steps: int) -> int:
    if not eligible:
        return steps
    return 2 * steps + PROBE_STEPS * sum(1 + min(eligible, most) for most in PROBE)


def probe(
    problem: Problem, starts: Mapping[str, SoftPrompt], on_step: OnStep = lambda _step, _steps: None
) -> tuple[dict[str, Probed], str]:
    """Successive halving of `starts`, library prompts best first and the null one: all, and the finalist's name.

    In each round those left go on for some steps and the better ones stay. The null one is in every round, and
    never the finalist.
    """
    probed: dict[str, Probed] = {}
    field = [name for name in starts if name != NULL]
    for most in PROBE:
        field = field[:most]
        for name in (NULL, *field):
            before = probed.get(name, Probed(starts[name]))
            moved = descend(problem, before.prompt, PROBE_STEPS, on_step=on_step)
            probed[name] = Probed(moved.prompt, (*before.losses, moved.held_out_loss))
        field.sort(key=lambda name: probed[name].losses[-1])
    return probed, field[0]


def score(
    new: TransferInput, problem: Problem, start: SoftPrompt, records: Sequence[LibraryRecord]
) -> dict[str, Scores]:
    """Every record's scores on public texts that are trained on, in the words of the new task."""
    anchors = problem.trained[:ANCHORS]
    texts = [new.texts[index] for index in anchors]
    asked = new.proxy.encoder(new.task)
    ours, theirs = asked.encode(texts), [problem.lines[index] for index in anchors]
    bare = answer_states(new.proxy, ours, None)
    states = answer_states(new.proxy, ours, new.prompt)
    answers = new.proxy.answer_logits(ours, new.prompt, asked.words)
    near = [item for item in records if item.proxy_prompt.model.digest == new.proxy.ref.digest]
    means = [(answer_states(new.proxy, ours, item.proxy_prompt) - bare).mean(dim=0) for item in near]
    cosines = effect_cosines((states - bare).mean(dim=0), torch.stack(means)).tolist() if near else []
    effects = dict(zip((item.name for item in near), cosines, strict=True))
    target_bare = answer_states(new.target, theirs, None)
    (gradient,) = problem.gradients(start.vectors.clone().requires_grad_(True), anchors)
    found = {}
    for item in records:
        other = new.target.encoder(item.task)
        told = new.target.answer_logits(other.encode(texts), item.prompt, other.words)
        found[item.name] = Scores(
            effect=effects.get(item.name),
            alignment=alignment(states - bare, answer_states(new.target, theirs, item.prompt) - target_bare),
            leep=leep(answers, told),
            gradient=descent_cosine(gradient, start.vectors, item.prompt.vectors),
            paper=_paper(new, states[:OWN_TEXTS], item) if item.name in effects else None,
        )
    return found


def _paper(new: TransferInput, states: torch.Tensor, item: LibraryRecord) -> float | None:
    if not item.texts:
        return None
    lines = new.proxy.encoder(item.task).encode(item.texts[:OWN_TEXTS])
    return task_similarity(states, answer_states(new.proxy, lines, item.proxy_prompt))
