"""The mechanism audit: does the noised sum reveal a record better than the accountant says?

Trials run in two worlds, with and without one record, through the real optimiser and the real noise, one step each.
The record is a worst case: its gradient is long, along one coordinate, and opposite to all others. The audit thus
detects noise that is too small, but also clipping of the batch instead of the record, and noise divided over the
batch. The attacker sees what the accountant assumes: the noised gradient of every step (Nasr et al. 2023,
https://arxiv.org/abs/2302.07956). Noise that is drawn once and used again has the right size, so the audit also tests
whether steps resemble each other.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from client.audit.bounds import Scores, follows_itself, gaussian_epsilon, two_world_mu
from client.audit.finding import Finding
from client.private.dpsgd import NoisyOptimizer
from client.private.noise import NoiseSource
from transfer.errors import UsageError
from transfer.privacy import Spend, epsilon
from transfer.progress import OnStep
from transfer.protocol.rounds import Tuning

NOISE, TRIALS, DELTA, CONFIDENCE = 1.0, 20_000, 1e-5, 1 - 1e-6
LEAST_TRIALS = 100
CLIP_NORM = 1.0
BYSTANDERS = 15
"""Other records of the batch; the gradient of each is half a clipping norm in the opposite direction."""
LENGTH = 20.0
"""Norm of the canary's gradient before clipping, in clipping norms."""
SHAPE = (2, 4)
_REPORT_EVERY = 500


def require(trials: int) -> None:
    """Refuse so few trials that no mechanism could fail.

    Raises:
        UsageError: names the least number.
    """
    if trials < LEAST_TRIALS:
        raise UsageError(f"{trials} trials prove nothing: use at least {LEAST_TRIALS}")


def audit(
    noise: float = NOISE,
    trials: int = TRIALS,
    *,
    confidence: float = CONFIDENCE,
    on_step: OnStep = lambda _done, _total: None,
) -> Finding:
    """Compare the claim for one step with noise multiplier `noise` at q = 1 with what `trials` per world prove.

    Raises:
        UsageError: too few trials, or no noise to audit.
    """
    require(trials)
    spend, started = Spend(noise, 1.0, 1), time.monotonic()
    if not noise:
        raise UsageError("noise multiplier 0 claims no privacy: there is nothing to audit")
    claimed = epsilon([spend], DELTA)
    absent = _world(spend, trials, False, lambda done: on_step(done, 2 * trials))
    present = _world(spend, trials, True, lambda done: on_step(trials + done, 2 * trials))
    mu = two_world_mu(absent, present, confidence)
    bound = gaussian_epsilon(mu, DELTA)
    fresh = not (follows_itself(absent, confidence) or follows_itself(present, confidence))
    return Finding(
        audit="mechanism",
        claimed=claimed,
        delta=DELTA,
        bound=bound,
        sound=fresh,
        verdict=_verdict(claimed, bound, fresh),
        measured={"share_of_claim": bound / claimed if claimed else 1.0, "mu": mu, "claimed_mu": 1 / noise},
        settings={"noise_multiplier": noise, "trials": trials, "confidence": confidence},
        seconds=time.monotonic() - started,
    )


def _verdict(claimed: float, bound: float, fresh: bool) -> str:
    if bound > claimed:
        return (
            f"the noised sum reveals too much about a record: ε is at least {bound:.3g} where {claimed:.3g} is "
            "claimed; answer no rounds with this installation"
        )
    if not fresh:
        return "the noise of one step predicts that of the next; answer no rounds with this installation"
    return (
        f"the noised sum reveals no more about a record than is claimed: measured ε ≥ {bound:.3g}, "
        f"claimed {claimed:.3g}"
    )


def _world(spend: Spend, trials: int, present: bool, report: Callable[[int], None]) -> Scores:
    """Return what each step releases at the canary's coordinate, [trials], in clipping norms."""
    rows = torch.zeros(BYSTANDERS + present, *SHAPE)  # per-record gradients [B, 2, 4]
    rows[:BYSTANDERS, 0, 0] = -0.5 * CLIP_NORM
    rows[BYSTANDERS:, 0, 0] = LENGTH * CLIP_NORM
    parameter = nn.Parameter(torch.zeros(SHAPE))
    scores: list[float] = []

    def record(_optimizer: object) -> None:
        if parameter.grad is not None:
            scores.append(parameter.grad[0, 0].item())

    # the denominator is public and the same in both worlds
    optimizer = NoisyOptimizer(parameter, Tuning(spend, CLIP_NORM, 1e-3), 1.0, NoiseSource())
    optimizer.attach_step_hook(record)
    for trial in range(trials):
        parameter.grad_sample = rows  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad()
        if trial % _REPORT_EVERY == 0:
            report(trial)
    return np.array(scores) / CLIP_NORM
