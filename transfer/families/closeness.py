"""Agreement of two ways to compute the same numbers."""

import torch

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Largest difference allowed, as a share of the largest number."""
REDUCED = 5e-2
"""The tolerance in 16 bits or less."""


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest of `theirs`: ∞ if shapes differ, NaN if a number is."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.float(), theirs.float()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether the numbers agree within the tolerance of a model in `dtype`; NaN never agrees."""
    return distance(ours, theirs) <= TOLERANCE.get(dtype, REDUCED)
