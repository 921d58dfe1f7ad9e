"""Defaults of a plan's tuning, for help texts that are shown without reading a plan."""

ROUNDS, MIN_CLIENTS, PROMPT_LENGTH = 3, 3, 10
"""Defaults of a plan's keys outside the [tuning] table."""
STEPS, SAMPLE_RATE, CLIP_NORM = 80, 0.0625, 1.0
DIMENSIONS, HEAD_DIMENSIONS = 32, 128
"""Dimensions of the subspace under noise: for tasks read by label words, and for tasks with a head."""
DELTA = 1e-6


def usual_learning_rate(dimensions: int) -> float:
    """Return the default step size at a round's first step, for a subspace of `dimensions`, or 0 for none.

    It is larger in a subspace, where each coordinate moves the whole prompt a little.
    """
    return 0.05 if dimensions else 0.02
