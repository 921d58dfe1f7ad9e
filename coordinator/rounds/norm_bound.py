"""The largest norm that an honest release's update can have."""

import math

from transfer.protocol.rounds import RoundRequest


def longest_update(request: RoundRequest) -> float:
    """Return a norm far above every honest update: several times the sum of all steps in one direction.

    Adam moves each of D tuned numbers by at most (1 − β₁)/√(1 − β₂) ≈ 3.2 learning rates a step (Kingma and Ba
    2015, https://arxiv.org/abs/1412.6980, §2.1), whatever the clipping norm and the noise. SGD without noise does
    not clip, so the bound is ∞.
    """
    tuning, spend = request.tuning, request.tuning.spend
    numbers = request.subspace.dimensions if request.subspace else request.prompt.vectors.numel()
    if tuning.optimizer == "adam":
        return 10 * spend.steps * tuning.learning_rate * math.sqrt(numbers)
    if not spend.noise_multiplier:
        return math.inf
    # A step is lr/(q·N) times a noised sum. N ≥ 1 is the client's declared number of units, unknown here. N units,
    # each clipped to C, move at most lr·C/q a step, whatever N is. The noise of all T steps is one Gaussian with a
    # deviation of at most lr·√T·σ·C/(q·N) in each of D numbers; its norm is about √D times that, largest for N = 1.
    # The factor 10 leaves room for a file with more units than declared; noise alone exceeds it once in e⁴⁰ rounds.
    noise = spend.noise_multiplier * math.sqrt(spend.steps * numbers)
    return 10 * tuning.learning_rate * tuning.clip_norm / spend.sample_rate * (spend.steps + noise)
