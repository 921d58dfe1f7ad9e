"""Membership inference on the owner's own records, or users: LiRA with shadow prompts.

Shadow prompts are tuned on random halves of a sample of the units, with the settings of a round. Each in turn is
attacked with the margins that the others give every unit (`client.audit.lira`): the margin of a record's label, or
the mean margin of a user's records (Kandpal et al. 2023, https://arxiv.org/abs/2310.09266). The shadow prompts never
leave memory, and the audit neither stores nor reports anything about a single unit.

Letters: K shadow prompts, N units of the sample, C classes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.audit.bounds import Flags, Scores, most_true_positives, one_run_epsilon, rates
from client.audit.finding import Finding
from client.audit.lira import likelihood_ratios
from client.audit.shadow_settings import ShadowSettings
from client.private.dpsgd import tune
from client.private.noise import NoiseSource
from client.private.records import PrivateRecords, read
from transfer.errors import DataError, UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.public_directions import public_subspace
from transfer.post.baselines import text_prompt
from transfer.privacy import Budget, Spend, Unit, calibrate, epsilon
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.subspace import Subspace
from transfer.tasks import Task
from transfer.tokens.readout import goals

CONFIDENCE = 0.99
"""One audit in a hundred may wrongly advise against rounds; with few records, δ allows no stronger proof."""
LEAST_UNITS = 20
LOW_RATE = 0.01
"""False positive rate at which an attack is judged: an attack that is sure of a few records harms those."""
VACUOUS = 0.9
"""A limit above this share of the records tells a reader nothing."""
_CURVE = np.logspace(-3, 0, 61)


@dataclass(frozen=True, slots=True, eq=False)
class Shadowing:
    """The start and the settings of the shadow prompts.

    Attributes:
        start: prompt, and the rows of a head, that each shadow starts from.
        tuning: settings of a round.
        delta: δ at which the cost is claimed.
        subspace: directions to tune in, or None.
        shadows: K, number of shadow prompts.
    """

    model: LanguageModel
    task: Task
    start: SoftPrompt
    tuning: Tuning
    delta: float
    subspace: Subspace | None
    shadows: int

    @staticmethod
    def of(
        model: LanguageModel,
        task: Task,
        settings: ShadowSettings,
        most: Budget,
        public: Sequence[str] = (),
        unit: Unit = "record",
    ) -> "Shadowing":
        """Plan shadows that each cost `most`, tuned in directions found in `public` texts if there are any.

        Raises:
            UsageError: a setting is impossible, or the task is answered in free text.
            TaskError: the task does not fit the model.
        """
        if not task.labels:
            raise UsageError(
                f"task {task.name!r}: the membership audit reads labels, not answers in free text"
            )
        start = text_prompt(model, task, settings.length)
        dimensions = settings.dimensions
        directions = public_subspace(model, task, public, start, dimensions, seed=0) if public else None
        noise = calibrate(most.epsilon, most.delta, settings.sample_rate, settings.steps)
        tuning = Tuning(
            Spend(noise, settings.sample_rate, settings.steps, unit),
            settings.clip_norm,
            settings.step_size(subspace=directions is not None),
        )
        return Shadowing(model, task, start, tuning, most.delta, directions, settings.shadows)


def sample(path: Path, task: Task, size: int, unit: Unit = "record") -> PrivateRecords:
    """Draw at most `size` of a file's records, or all records of at most `size` users, without replacement.

    Raises:
        DataError: see `client.private.records.read`; or there are too few.
    """
    records = read(path, task.label_names, unit, many=task.many)
    units = _units(records)
    if len(units) < LEAST_UNITS:
        raise DataError(f"{path}: {len(units)} {unit}s: a membership audit needs {LEAST_UNITS}")
    order = np.argsort(NoiseSource().integers((len(units),)), kind="stable")
    return _chosen(records, [units[index] for index in order[:size]])


def audit(
    plan: Shadowing, records: PrivateRecords, *, on_step: OnStep = lambda _done, _total: None
) -> Finding:
    """Tune the shadow prompts, attack each of them, and compare the result with what their guarantee allows."""
    started, units, source = time.monotonic(), _units(records), NoiseSource()
    member = np.stack([source.bernoulli(len(units), 0.5) for _ in range(plan.shadows)])  # [K, N]
    margins = np.empty(member.shape)  # [K, N]
    for index, inside in enumerate(member):

        def report(done: int, steps: int, before: int = index) -> None:
            on_step(before * steps + done, plan.shadows * steps)

        half = _chosen(records, [units[place] for place in np.flatnonzero(inside)])
        of_records = _margins(plan, records, _shadow(plan, half, len(units) // 2, report))
        margins[index] = [of_records[unit].mean() for unit in units]
    claimed = epsilon([plan.tuning.spend], plan.delta)
    return finding(
        plan, likelihood_ratios(margins, member), member, claimed, seconds=time.monotonic() - started
    )


def finding(
    plan: Shadowing, scores: Scores, member: Flags, claimed: float, *, seconds: float = 0.0
) -> Finding:
    """Return the finding from the attacks' scores [K, N]; NaN means no attack.

    Coins decide membership in each shadow independently of all other shadows, so the one-run bound holds for each.
    The best of the K bounds counts, and each is tested at one K-th of the level.
    """
    level = 1 - (1 - CONFIDENCE) / len(scores)
    bound = max(
        one_run_epsilon(row[known], inside[known], plan.delta, level)
        for row, inside in zip(scores, member, strict=True)
        if (known := ~np.isnan(row)).any()
    )
    tried = ~np.isnan(scores)
    false, true = rates(scores[tried], member[tried])
    area = float(np.trapezoid(true, false))
    reached = np.interp(_CURVE, false, true)
    allowed = most_true_positives(_CURVE, claimed, plan.delta)
    low_reached = float(np.interp(LOW_RATE, false, true))
    low_allowed = float(most_true_positives(np.array([LOW_RATE]), claimed, plan.delta)[0])
    spend = plan.tuning.spend
    return Finding(
        audit="membership",
        claimed=claimed,
        delta=plan.delta,
        bound=bound,
        verdict=_verdict(spend.unit, claimed, bound, area, low_reached, low_allowed),
        measured={
            "auc": area,
            "true_positives_at_1_percent": low_reached,
            "allowed_at_1_percent": low_allowed,
        },
        settings={
            "task": plan.task.name,
            "proxy": plan.model.ref.name,
            "shadows": plan.shadows,
            f"{spend.unit}s": member.shape[1],
            "noise_multiplier": spend.noise_multiplier,
            "sample_rate": spend.sample_rate,
            "steps": spend.steps,
            "clip_norm": plan.tuning.clip_norm,
            "learning_rate": plan.tuning.learning_rate,
            "dimensions": plan.subspace.dimensions if plan.subspace else 0,
            "confidence": CONFIDENCE,
        },
        curves={"fpr": _CURVE.tolist(), "tpr": reached.tolist(), "allowed": allowed.tolist()},
        seconds=seconds,
    )


def _verdict(unit: Unit, claimed: float, bound: float, area: float, reached: float, allowed: float) -> str:
    if bound > claimed:
        return (
            f"an attacker recognises your {unit}s better than ε {claimed:.3g} allows: ε is at least "
            f"{bound:.3g}; answer no rounds with these settings"
        )
    seen = f"finds {100 * reached:.1f} % of your {unit}s at 1 % false alarms"
    allows = f"at most {100 * allowed:.1f} % are allowed"
    if np.isinf(claimed):
        allows = "no noise, so no limit is claimed"
    elif allowed > VACUOUS:
        allows = f"ε {claimed:.3g} would not keep an attacker from finding nearly all"
    return f"an attacker with {area:.3f} AUC (0.5 is guessing) {seen}; {allows}"


def _shadow(plan: Shadowing, records: PrivateRecords, declared: int, on_step: OnStep) -> SoftPrompt:
    """Tune a prompt on `records` as in a round."""
    return tune(
        plan.model,
        records,
        plan.task,
        plan.start,
        plan.tuning,
        declared_units=declared,
        randomness=NoiseSource(),
        subspace=plan.subspace,
        on_step=on_step,
    )


def _margins(plan: Shadowing, records: PrivateRecords, prompt: SoftPrompt) -> Scores:
    """Return the log-odds of each record's own label, or of all its labels, behind a prompt (the paper's scaling)."""
    encoder = plan.model.encoder(plan.task)
    logits = plan.model.answer_logits(encoder.encode(records.texts), prompt, encoder.words).double()
    if plan.task.many:
        return _odds_of_sets(logits, goals(records.labels, encoder.words).double())
    own = torch.tensor(records.labels).unsqueeze(1)  # [records, 1]; logits are [records, C]
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    margins: Scores = (logits.gather(1, own)[:, 0] - others).numpy()
    return margins


def _odds_of_sets(logits: torch.Tensor, truth: torch.Tensor) -> Scores:
    """Return log(p / (1 − p)) [records] of p = Π_c σ(±z_c), each record's whole set, given both [records, C]."""
    log_p = torch.nn.functional.logsigmoid(logits * (2 * truth - 1)).sum(dim=1)
    margins: Scores = (log_p - torch.log(-torch.expm1(log_p))).numpy()
    return margins


def _units(records: PrivateRecords) -> list[list[int]]:
    """Return the indices of the records of each unit."""
    return records.by_user() if records.users else [[index] for index in range(len(records.texts))]


def _chosen(records: PrivateRecords, units: Sequence[Sequence[int]]) -> PrivateRecords:
    """Return the records of these units alone."""
    places = [index for unit in units for index in unit]
    return PrivateRecords(
        tuple(records.texts[index] for index in places),
        tuple(records.labels[index] for index in places),
        users=tuple(records.users[index] for index in places if records.users),
    )
