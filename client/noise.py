"""Cryptographic Gaussian noise and exact clipping, both in whole grid steps.

The noise of a private sum must be unpredictable, so it comes from AES-256-CTR under a fresh `os.urandom`
key and never from the generators of torch, numpy or `random`, which anyone may seed. It is an integer:
Round(N(0, 1024²)) steps of a grid g = σ·C/1024, where σ is the noise multiplier and C the clipping norm.
`clip_to_grid` puts the sum of clipped gradients on the same grid. For x on the grid,
x + g·Round(Z) = g·Round(x/g + Z), so the result is post-processing of the ideal Gaussian mechanism and
its accounting holds unchanged; floating point leaks nothing (Mironov 2012; Holohan & Braghin 2021,
https://arxiv.org/abs/2107.10138).

Unit of privacy: one record. Adjacency: add or remove it. Shapes: B records, [...] the prompt, usually [P, H].
"""

import bisect
import functools
import hashlib
import math
import os
from fractions import Fraction
from typing import Protocol

import mpmath
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor, float64, int64, where

from transfer.errors import UsageError

GRID_BITS = 10
"""The noise has a standard deviation of 2**GRID_BITS grid steps."""

_TAIL = 13.2
"""Beyond 13.2 standard deviations a probability is below 2**-128, the table's resolution."""

_WIDEST = 2**30
"""Most grid steps in a clipping norm: squares of larger ones could overflow 64 bits."""


class Randomness(Protocol):
    """The two draws DP-SGD needs. Production passes `NoiseSource()`; a test may pass a seeded fake."""

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Independent Round(N(0, 1024²)) of the given shape."""
        ...

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """[n] independent inclusions, each true with probability `rate`."""
        ...


class NoiseSource:
    """Randomness nobody can predict or repeat: it has no seed and no state.

    Every call draws a new key, so forked processes, threads and copies never share a stream.
    """

    __slots__ = ()

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Independent Round(N(0, 1024²)), within 2**-113 of it in total variation a draw."""
        words = _random_words(2 * math.prod(shape)).reshape(2, -1)
        return invert(words[0], words[1]).reshape(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """[n] independent inclusions, probability `rate` rounded down to a multiple of 2**-64.

        Raises:
            UsageError: `rate` is not in [0, 1].
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"sample rate {rate} must be in [0, 1]")
        if rate == 1:
            return np.ones(n, dtype=np.bool_)
        return _random_words(n) < np.uint64(int(rate * 2.0**64))


def invert(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Round(N(0, 1024²)) at the 128-bit uniforms high·2**64 + low: how many thresholds lie at or below them.

    Args:
        high: [N] upper halves; they alone decide all but about one in 2**49 draws.
        low: [N] lower halves.
    """
    thresholds, coarse = _table()
    above = np.searchsorted(coarse, high, side="right")
    tied = coarse[np.maximum(above, 1) - 1] == high
    for index in np.flatnonzero(tied):
        above[index] = bisect.bisect_right(thresholds, (int(high[index]) << 64) | int(low[index]))
    return above.astype(np.int64) - len(thresholds) // 2


def table_digest() -> str:
    """SHA-256 of the inverse table, so that a change of library or platform cannot pass unseen."""
    return hashlib.sha256(b"".join(t.to_bytes(16, "big") for t in _table()[0])).hexdigest()


def clip_to_grid(per_record: Tensor, clip_norm: float, grid: float) -> Tensor:
    """Sum over records of their gradients, each clipped to norm ≤ `clip_norm`, in whole grid steps.

    Adding or removing a record moves the result by at most clip_norm/grid in the Euclidean norm, exactly:
    a record's share depends on nothing but that record, bit for bit. Norms are therefore sums of integers,
    since floating sums change with the shape of the batch.

    Args:
        per_record: [B, ...] gradients; a record with any NaN or infinity contributes 0. B may be 0.
        clip_norm: C > 0.
        grid: g > 0, size of a step; at most C and at least C/2**30.

    Returns:
        [...] int64.

    Raises:
        UsageError: `clip_norm` or `grid` is out of range.
    """
    if not (math.isfinite(clip_norm) and 0 < grid <= clip_norm <= grid * _WIDEST):
        raise UsageError(
            f"clip norm {clip_norm} must be 1 to 2**30 grid steps of {grid}: check the noise multiplier"
        )
    batch, shape = per_record.shape[0], per_record.shape[1:]
    if batch == 0:
        return per_record.new_zeros(shape, dtype=int64)
    rows = per_record.detach().reshape(batch, -1).to(float64)
    rows = where(rows.isfinite().all(dim=1, keepdim=True), rows, 0.0)
    clipped = _clip(rows, clip_norm)
    longest = int((Fraction(clip_norm) / Fraction(grid)) ** 2)
    units = (clipped / grid).trunc().to(int64)
    while (too_long := (units * units).sum(dim=1) > longest).any():
        clipped[too_long] *= 1 - 2.0**-30
        units = (clipped / grid).trunc().to(int64)
    return units.sum(dim=0).reshape(shape)


def _clip(rows: Tensor, clip_norm: float) -> Tensor:
    """[B, D] scaled to norms ≤ clip_norm, up to rounding; rows already shorter are returned as they are."""
    peak = rows.abs().amax(dim=1, keepdim=True).clamp(min=2.0**-1022)
    unit = rows / peak
    scale = 2.0 ** ((62 - math.ceil(math.log2(rows.shape[1]))) // 2)
    # Rounding up overstates a norm by a few millionths and so never lets a row through too long.
    norm = (unit.abs() * scale).ceil().to(int64).square().sum(dim=1, keepdim=True).to(float64).sqrt() / scale
    factor = clip_norm / norm
    return where(peak <= factor, rows, unit * factor)


def _random_words(count: int) -> NDArray[np.uint64]:
    """[count] uniform 64-bit words from AES-256-CTR under a key used for this call only."""
    stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")


@functools.lru_cache(maxsize=1)
def _table() -> tuple[list[int], NDArray[np.uint64]]:
    """Thresholds Φ((k + ½)/1024)·2**128 for rising k, symmetric about ½, and their upper halves."""
    std = 2**GRID_BITS
    whole = 2**128
    with mpmath.workprec(150):
        unit = 1 / (std * mpmath.sqrt(2))
        lower = [
            int(mpmath.nint(whole * mpmath.erfc((k + mpmath.mpf(0.5)) * unit) / 2))
            for k in range(int(_TAIL * std), -1, -1)
        ]
    thresholds = lower + [whole - t for t in reversed(lower)]
    thresholds = [min(t, whole - 1) for t in thresholds]
    return thresholds, np.array([t >> 64 for t in thresholds], dtype=np.uint64)
