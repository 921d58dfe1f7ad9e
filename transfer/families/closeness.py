"""When two ways to compute the same numbers agree."""

import torch

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""Largest difference of two ways to compute the same numbers, as a share of the largest of them."""
REDUCED = 5e-2
"""The same in 16 bits or less."""


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, as a share of the largest of `theirs`; infinite if shapes differ, NaN if any is."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.float(), theirs.float()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether they agree as far as a model of that `dtype` computes them."""
    return distance(ours, theirs) <= TOLERANCE.get(dtype, REDUCED)
