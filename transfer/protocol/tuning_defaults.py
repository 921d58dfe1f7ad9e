"""Defaults of a plan's tuning, as numbers that a command can tell about without reading a plan."""

ROUNDS, MIN_CLIENTS, PROMPT_LENGTH = 3, 3, 10
"""A plan's defaults for what stands outside of the table."""
STEPS, SAMPLE_RATE, CLIP_NORM = 80, 0.0625, 1.0
DIMENSIONS, HEAD_DIMENSIONS = 32, 128
"""Directions tuned in under noise where label words are read, and where a head is tuned with the prompt."""
DELTA = 1e-6


def usual_learning_rate(dimensions: int) -> float:
    """Step size at a round's first step: coordinates of a few directions each move a whole prompt a little."""
    return 0.05 if dimensions else 0.02
