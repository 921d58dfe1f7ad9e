"""Cryptographic Gaussian noise and exact clipping, both in whole grid steps.

The noise of a private sum must be unpredictable. It therefore comes from AES-256-CTR under a fresh `os.urandom` key,
never from the generators of torch, numpy or `random`, which anyone may seed. It is an integer: Round(N(0, 2**40))
steps of a grid g = σ·C/2**20, where σ is the noise multiplier and C the clipping norm. `clip_to_grid` puts the sum of
clipped gradients on the same grid. For x on the grid, x + g·Round(Z) = g·Round(x/g + Z). The result is thus
post-processing of the ideal Gaussian mechanism, whose accounting holds unchanged, and floating point leaks nothing
(Mironov 2012; Holohan & Braghin 2021, https://arxiv.org/abs/2107.10138).

The grid must be this fine, because one coordinate of a clipped gradient is a small part of C. A grid of σ·C/2**10
truncates a third of the summed gradient at σ = 4 and half of it at σ = 8 (20 × 768 coordinates of log-normal scale).
This grid truncates less than a thousandth.

Unit of privacy: a record with its gradient, or a user with the mean gradient of their records. Adjacency: add or
remove one unit. Shapes: B units, [...] the prompt, usually [P, H].
"""

import math
import os
from fractions import Fraction
from typing import Protocol

import mpmath
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, float64, int64, where

from transfer.errors import UsageError

GRID_BITS = 20
"""The noise has a standard deviation of 2**GRID_BITS grid steps."""

_DOUBT = 2.0**-20
"""A quantile this close to half a step is rounded exactly; floating point errs by less than 2**-27 of a step."""

_WIDEST = 2**30
"""Most grid steps in a clipping norm: the squares of larger norms could overflow 64 bits."""


class Randomness(Protocol):
    """The two draws that DP-SGD needs. Production passes `NoiseSource()`; a test may pass a seeded fake."""

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Draw independent Round(N(0, 2**40)) of the given shape."""
        ...

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """Draw [n] independent inclusions, each true with probability `rate`."""
        ...


class NoiseSource:
    """Randomness that nobody can predict or repeat: it has no seed and no state.

    Guarantee: every call draws a new key from `os.urandom`, so forked processes, threads and copies never share a
    stream. Unpredictability rests on `os.urandom` and AES-256.
    """

    __slots__ = ()

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Draw independent Round(N(0, 2**40)), each within 2**-102 in total variation."""
        # Two words per integer: fewer than 128 bits could not come within 2**-102 of the law.
        words = _random_words(2 * math.prod(shape)).reshape(2, -1)
        return invert(words[0], words[1]).reshape(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """Draw [n] independent inclusions with probability `rate`, rounded down to a multiple of 2**-64.

        Edge cases: a rate of 0 includes nobody, a rate of 1 includes everybody; NaN is refused.

        Raises:
            UsageError: `rate` is not in [0, 1].
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"sample rate {rate} must be in [0, 1]")
        if rate == 1:  # 2**64 does not fit a word
            return np.ones(n, dtype=np.bool_)
        return _random_words(n) < np.uint64(int(rate * 2.0**64))


def invert(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return Round(N(0, 2**40)) at the 128-bit uniforms high·2**64 + low, exactly.

    The top bit is the sign. The other 127 bits are a tail probability k + ½ in units of 2**-128; its quantile is
    rounded to a whole step. Floating point decides unless its error could change the rounding.

    Args:
        high: [N] upper halves.
        low: [N] lower halves.
    """
    upper = high & np.uint64(2**63 - 1)  # [N], without the sign
    tail = (upper.astype(np.float64) * 2.0**64 + low.astype(np.float64) + 0.5) * 2.0**-128  # [N], in (0, ½]
    quantile: NDArray[np.float64] = -ndtri(tail) * 2.0**GRID_BITS  # ≥ 0, in grid steps
    below = np.floor(quantile)
    steps = np.floor(quantile + 0.5).astype(np.int64)
    for index in np.flatnonzero(np.abs(quantile - below - 0.5) < _DOUBT):
        steps[index] = _round_exactly((int(upper[index]) << 64) | int(low[index]), int(below[index]))
    return np.where(high >> np.uint64(63), -steps, steps)


def clip_to_grid(gradients: Tensor, clip_norm: float, grid: float) -> Tensor:
    """Sum the gradients of all units, each clipped to norm ≤ `clip_norm`, in whole grid steps.

    Guarantee:
        Adding or removing one unit moves the result by at most clip_norm/grid in the Euclidean norm, exactly. A
        unit's share depends on its own gradient alone, bit for bit. Norms are sums of integers for that reason:
        floating-point sums change with the shape of the batch.

    Edge cases:
        B = 0: zeros. A gradient with any NaN or infinity: it contributes 0. clip_norm 0, ∞ or NaN, or a grid outside
        [C/2**30, C], as with σ = 0: refused.

    Args:
        gradients: [B, ...], one per unit; B may be 0.
        clip_norm: C > 0, finite.
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
    batch, shape = gradients.shape[0], gradients.shape[1:]
    if batch == 0:
        return gradients.new_zeros(shape, dtype=int64)
    rows = gradients.detach().reshape(batch, -1).to(float64)  # [B, D], D = P·H
    # A non-finite gradient has no norm to clip to: the whole row becomes 0, not just the bad coordinates.
    rows = where(rows.isfinite().all(dim=1, keepdim=True), rows, 0.0)
    clipped = _clip(rows, clip_norm)
    longest = int((Fraction(clip_norm) / Fraction(grid)) ** 2)
    units = (clipped / grid).trunc().to(int64)  # [B, D]; towards 0, so that no norm grows
    # The exact bound: integer norms are compared, and what rounding left too long is shrunk until it fits.
    while (too_long := (units * units).sum(dim=1) > longest).any():
        clipped[too_long] *= 1 - 2.0**-30
        units = (clipped / grid).trunc().to(int64)
    return units.sum(dim=0).reshape(shape)


def _clip(rows: Tensor, clip_norm: float) -> Tensor:
    """Scale rows [B, D] to norms ≤ clip_norm, up to rounding; shorter rows stay unchanged."""
    peak = rows.abs().amax(dim=1, keepdim=True).clamp(min=2.0**-1022)
    unit = rows / peak
    scale = 2.0 ** ((62 - math.ceil(math.log2(rows.shape[1]))) // 2)
    # Rounding up overstates a norm by a few millionths, so no row stays too long. [B, 1]
    norm = (unit.abs() * scale).ceil().to(int64).square().sum(dim=1, keepdim=True).to(float64).sqrt() / scale
    factor = clip_norm / norm
    return where(peak <= factor, rows, unit * factor)


def _random_words(count: int) -> NDArray[np.uint64]:
    """Draw [count] uniform 64-bit words from AES-256-CTR under a key that serves this call only."""
    stream = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")


def _round_exactly(k: int, below: int) -> int:
    """Return `below` or `below` + 1, whichever is nearer to the quantile of tail probability (k + ½)·2**-128."""
    with mpmath.workprec(200):
        middle = (below + mpmath.mpf(0.5)) / 2**GRID_BITS
        return below + bool((k + mpmath.mpf(0.5)) / 2**128 < mpmath.erfc(middle / mpmath.sqrt(2)) / 2)
