"""PANDA without labels: a library prompt starts and teaches a transfer, if this lowers the held-out loss.

Letters: N public texts, n of them held out, P prompt tokens, H hidden size, C classes, K library prompts.

PANDA (Zhong et al. 2022, https://arxiv.org/abs/2208.10160) distils from a prompt of another task that was tuned on
the new task's labels. Here labels are private, so POST's answers replace them. A library prompt is trained a few
steps on the new task. Its answers then teach beside the proxy's, as far as both gradients agree, with a weight that
fades. Choice and comparison use public text alone. If the library gains no more than one standard error, the result
is the plain transfer, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from transfer.post.descent import descend, settle
from transfer.post.problem import Problem
from transfer.post.settings import TransferSettings
from transfer.post.starts import begun, first_steps
from transfer.post.transfer import initial_prompt
from transfer.progress import OnStep, counted
from transfer.prompt import SoftPrompt
from transfer.tokens.readout import within

ANCHORS = 256
"""Largest number of public texts for the scores; none of them is held out."""
OWN_TEXTS = 100
"""Largest number of a task's own examples for PANDA's own score."""
PROBE = (10, 3)
"""Library prompts in each round of the probe; the best after the last round is the finalist.

A few steps predict more than any score (PANDA's own tables), so a small library is probed as a whole.
"""
PROBE_STEPS = 60
TEACHER_WEIGHT = 1.0
"""λ₀, the largest weight of a library teacher beside the proxy."""
MOMENTUM = 0.9
CONSTANT_SHARE = 0.1


class LibraryTeacher:
    """A guide by T²·KL to the cached answers [N, C or V] of a frozen library prompt.

    The weight of its gradient is λ₀·ŝ·max(0, cos(g_task, g_library))·fade. The cosine is a running mean over steps.
    The fade is 1 for a tenth of the steps and then falls to 0, so the task alone decides the end.
    """

    def __init__(self, answers: torch.Tensor, temperature: float, strength: float) -> None:
        self.answers, self.temperature = answers, temperature
        self.most = TEACHER_WEIGHT * strength
        self.agreement: float | None = None

    def losses(self, logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """Return the loss [B] of each chosen text; see `transfer.post.problem.Losses`."""
        logits = within(logits, self.answers.dtype)
        return divergences(self.answers[list(chosen)].float(), logits, self.temperature)

    def weight(self, done: float, task: torch.Tensor, own: torch.Tensor) -> float:
        """Return the weight of `own`; see `transfer.post.descent.Guide`."""
        now = cosine(task, own)
        before = now if self.agreement is None else self.agreement
        self.agreement = MOMENTUM * before + (1 - MOMENTUM) * now
        fade = min(1.0, (1 - done) / (1 - CONSTANT_SHARE))
        return self.most * max(0.0, self.agreement) * fade


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """A candidate's prompt after some steps of the transfer, and its held-out loss after each round of the probe."""

    prompt: SoftPrompt
    losses: tuple[float, ...] = ()


def transfer_with_library(
    new: TransferInput,
    problem: Problem,
    records: Sequence[LibraryRecord],
    on_step: OnStep = lambda _step, _steps: None,
) -> Choice:
    """Solve `problem` without the library and with the best prompt of it, and return the better result.

    Guarantee:
        Only eligible records, see `LibraryRecord.obstacle`, contribute. The library reads public text and published
        prompts alone. Without an eligible record, or with a gain of at most one standard error, the result equals the
        transfer without a library, bit for bit.
    """
    return prepare(new, problem, records).solve(on_step)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A problem and the library's prompts for it, with all that was to be asked of the proxy; it holds no proxy.

    Attributes:
        texts: the public texts, of which the problem's indices tell.
        problem: the problem.
        start: prompt of the target that the transfer without a library begins with, see `begun`.
        eligible: the records that may be used, by name.
        obstacles: why each record may not be used, or None, by name.
        scores: scores of the eligible records, by name.
    """

    texts: Sequence[str]
    problem: Problem
    start: SoftPrompt
    eligible: Mapping[str, LibraryRecord]
    obstacles: Mapping[str, str | None]
    scores: Mapping[str, Scores]

    def solve(self, on_step: OnStep = lambda _step, _steps: None) -> Choice:
        """Solve the problem without and with the library; see `transfer_with_library`."""
        problem, settings = self.problem, self.problem.settings
        tick = counted(on_step, _all_steps(len(self.eligible), settings))
        start = begun(problem, self.start, tick)
        plain = settle(problem, start, on_step=tick)
        if not self.eligible:
            return Choice(plain, plain, _table(self.obstacles, {}, {}))
        names = shortlist(self.scores)
        starts = {NULL: start} | {name: self.eligible[name].prompt for name in names}
        probed, finalist = probe(problem, starts, tick)
        begin = min((NULL, finalist), key=lambda name: probed[name].losses[-1])
        answers = problem.answers(probed[finalist].prompt)
        teacher = LibraryTeacher(answers, settings.temperature, self.scores[finalist].strength)
        taught = settle(problem, starts[begin], teacher, tick)
        without, used = (problem.losses_of(item.prompt.vectors, problem.held_out) for item in (plain, taught))
        comparison = Comparison.of(without, used)
        better = taught if comparison.won else plain
        candidates = _table(self.obstacles, self.scores, probed)
        return Choice(better, plain, candidates, finalist, begin, comparison)


def prepare(new: TransferInput, problem: Problem, records: Sequence[LibraryRecord]) -> Prepared:
    """Ask the proxy all that a transfer with the library has to know of it; it may leave memory then."""
    start = initial_prompt(new.prompt, new.proxy, new.target, new.task, problem.settings)
    obstacles = {item.name: item.obstacle(new.target.ref, new.campaign, new.guarantee) for item in records}
    eligible = {item.name: item for item in records if obstacles[item.name] is None}
    scores = score(new, problem, start, list(eligible.values())) if eligible else {}
    return Prepared(new.texts, problem, start, eligible, obstacles, scores)


def _table(
    obstacles: Mapping[str, str | None], scores: Mapping[str, Scores], probed: Mapping[str, Probed]
) -> tuple[Candidate, ...]:
    losses = {name: item.losses for name, item in probed.items()}
    return tuple(
        Candidate(name, obstacles.get(name), scores.get(name), losses.get(name, ()))
        for name in (NULL, *obstacles)
    )


def _all_steps(eligible: int, settings: TransferSettings) -> int:
    first = first_steps(settings)
    if not eligible:
        return first + settings.most_steps
    return first + 2 * settings.most_steps + PROBE_STEPS * sum(1 + min(eligible, most) for most in PROBE)


def probe(
    problem: Problem, starts: Mapping[str, SoftPrompt], on_step: OnStep = lambda _step, _steps: None
) -> tuple[dict[str, Probed], str]:
    """Reduce `starts` (library prompts, best first, and the null one) in rounds; return all, and the finalist's name.

    In each round the remaining candidates train for `PROBE_STEPS` steps and the better ones stay. The null candidate
    takes part in every round and is never the finalist.
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
    """Return the scores of every record by name, on public texts of the training part."""
    anchors = problem.trained[:ANCHORS]
    texts = [new.texts[index] for index in anchors]
    encoder = new.proxy.encoder(new.task)
    ours, theirs = encoder.encode(texts), [problem.lines[index] for index in anchors]
    bare = answer_states(new.proxy, ours, None)  # [N, H]
    states = answer_states(new.proxy, ours, new.prompt)
    answers = new.proxy.answer_logits(ours, new.prompt, encoder.words)  # [N, C]
    # effects are vectors in the proxy's state space: only records of the same proxy have one there
    near = [item for item in records if item.proxy_prompt.model.digest == new.proxy.ref.digest]
    means = [(answer_states(new.proxy, ours, item.proxy_prompt) - bare).mean(dim=0) for item in near]
    cosines = effect_cosines((states - bare).mean(dim=0), torch.stack(means)).tolist() if near else []
    effects = dict(zip((item.name for item in near), cosines, strict=True))
    target_bare = answer_states(new.target, theirs, None)
    (gradient,) = problem.gradients(start.vectors.clone().requires_grad_(True), anchors)
    scores = {}
    for item in records:
        other = new.target.encoder(item.task)
        other_answers = new.target.answer_logits(other.encode(texts), item.prompt, other.words)  # [N, Z]
        scores[item.name] = Scores(
            effect=effects.get(item.name),
            alignment=alignment(states - bare, answer_states(new.target, theirs, item.prompt) - target_bare),
            leep=leep(answers, other_answers),
            gradient=descent_cosine(gradient, start.vectors, item.prompt.vectors),
            paper=_paper(new, states[:OWN_TEXTS], item) if item.name in effects else None,
        )
    return scores


def _paper(new: TransferInput, states: torch.Tensor, item: LibraryRecord) -> float | None:
    if not item.texts:
        return None
    lines = new.proxy.encoder(item.task).encode(item.texts[:OWN_TEXTS])
    return task_similarity(states, answer_states(new.proxy, lines, item.proxy_prompt))
