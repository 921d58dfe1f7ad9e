"""Noise is Gaussian at the stated scale, unpredictable, and independent; clipping is exact."""

import hashlib
import math
import os
import random

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

from client.private import noise
from client.private.noise import GRID_BITS, NoiseSource, Randomness, clip_to_grid, invert
from transfer.errors import UsageError

STD = 2**GRID_BITS
DIGEST = "7a882500e9900d98fff8529d046d515257dc213bdedafaeeadb3dbd93069b20b"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def distance(draws: np.ndarray, std: float) -> float:
    """p-value of Kolmogorov-Smirnov against N(0, std²); ±½ spreads the rounded draws over their cell."""
    # A fixed generator: only the noise under test may make this test random.
    spread = np.random.Generator(np.random.PCG64(1)).uniform(-0.5, 0.5, draws.size)
    return float(stats.kstest((draws + spread) / std, "norm", method="asymp").pvalue)


@pytest.mark.promise("noise")
def test_noise_follows_the_stated_scale_and_no_other(measured):
    draws = NoiseSource().integers((100_000,))
    p_values = {scale: distance(draws, STD * scale) for scale in (1, 0.9, 1.1)}
    measured(**{f"p_at_scale_{scale}": value for scale, value in p_values.items()})
    assert p_values[1] > 1e-6
    assert max(p_values[0.9], p_values[1.1]) < 1e-9


def test_a_million_draws_have_the_stated_standard_deviation_and_no_mean():
    draws = NoiseSource().integers((1000, 1000))
    assert draws.shape == (1000, 1000)
    assert draws.dtype == np.int64
    assert abs(draws.std() / STD - 1) < 0.01
    assert abs(draws.mean()) < 6 * STD / 1000


@pytest.mark.promise("noise")
def test_steps_and_coordinates_are_uncorrelated(measured):
    steps = NoiseSource().integers((20, 20_000)) / STD
    correlation = np.corrcoef(steps)
    off_diagonal = correlation[~np.eye(20, dtype=bool)]
    measured(largest_correlation=np.abs(off_diagonal).max(), allowed=6 / math.sqrt(20_000))
    assert np.abs(off_diagonal).max() < 6 / math.sqrt(20_000)
    again = NoiseSource().integers((20_000,)) / STD
    assert abs(np.corrcoef(again, steps[0])[0, 1]) < 6 / math.sqrt(20_000)
    assert abs(np.corrcoef(again[1:], again[:-1])[0, 1]) < 6 / math.sqrt(20_000)


def test_one_source_never_repeats_itself():
    source = NoiseSource()
    assert not np.array_equal(source.integers((100,)), source.integers((100,)))


def draws_of_a_fork(source: NoiseSource) -> list[int]:
    """Eight draws by a child of this process that has seeded every global generator with 0."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            os.write(writer, source.integers((8,)).tobytes())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        drawn = np.frombuffer(pipe.read(), dtype=np.int64).tolist()
    os.waitpid(child, 0)
    return drawn


@pytest.mark.promise("noise")
def test_equally_seeded_processes_draw_different_noise_even_when_forked_from_one_source():
    source = NoiseSource()
    source.integers((1,))
    drawn = [draws_of_a_fork(source) for _ in range(4)]
    assert all(len(draws) == 8 for draws in drawn)
    assert len({tuple(draws) for draws in drawn}) == 4


@pytest.mark.promise("noise")
def test_noise_never_asks_a_global_generator(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a global generator was used")

    for module, names in (
        (torch, ["normal", "randn", "rand", "randint", "bernoulli", "multinomial", "randperm"]),
        (np.random, ["normal", "standard_normal", "randn", "rand", "random", "binomial", "default_rng"]),
        (random, ["random", "gauss", "normalvariate", "getrandbits", "randrange"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    draws = NoiseSource().integers((10_000,))
    included = NoiseSource().bernoulli(10_000, 0.5)
    assert abs(draws.std() / STD - 1) < 0.1
    assert 4_500 < included.sum() < 5_500
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])


def test_the_source_takes_no_seed():
    with pytest.raises(TypeError):
        NoiseSource(0)
    source: Randomness = NoiseSource()
    assert not hasattr(source, "__dict__")


def halves(uniforms: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower halves of 128-bit numbers."""
    high = np.array([u >> 64 for u in uniforms], dtype=np.uint64)
    return high, np.array([u & (2**64 - 1) for u in uniforms], dtype=np.uint64)


def test_the_same_uniforms_give_the_same_noise_on_every_machine():
    """A library or platform that moved one draw in 20 000 by one step would change the digest."""
    uniforms = np.frombuffer(hashlib.shake_256(b"promptferry noise").digest(16 * 20_000), "<u8").reshape(
        2, -1
    )
    drawn = invert(uniforms[0].astype(np.uint64), uniforms[1].astype(np.uint64))
    assert hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest() == DIGEST


values = st.one_of(st.integers(0, 40), st.integers(0, 6 * STD), st.sampled_from([0, STD, 9 * STD, 12 * STD]))


@settings(max_examples=150, deadline=None)
@given(values, st.data())
def test_a_uniform_gives_the_integer_whose_interval_holds_it_to_the_last_bit(value: int, data):
    """Reference: the normal tail at 400 bits. Uniforms beside a threshold are beyond floating point."""
    with mpmath.workprec(400):
        # |Z| rounds to `value` if its tail probability, (k + ½)·2**-128, lies between these two.
        nearer, farther = (
            int(mpmath.floor(mpmath.erfc((value + side) / STD / mpmath.sqrt(2)) * 2**127 - mpmath.mpf(0.5)))
            for side in (mpmath.mpf(-0.5), mpmath.mpf(0.5))
        )
    nearer = min(nearer, 2**127 - 1)
    inside = [farther + 1, nearer, data.draw(st.integers(farther + 1, nearer))]
    assert invert(*halves(inside)).tolist() == [value] * 3
    assert invert(*halves([2**127 + k for k in inside])).tolist() == [-value] * 3
    assert invert(*halves([farther])).tolist() == [value + 1]
    if value > 0:
        assert invert(*halves([nearer + 1])).tolist() == [value - 1]


def test_floating_point_errs_by_far_less_than_the_doubt_it_is_given():
    picks = random.Random(5)
    tails = [picks.random() / 2 for _ in range(200)] + [2.0 ** -picks.uniform(1, 129) for _ in range(400)]
    with mpmath.workprec(200):
        for tail, quantile in zip(tails, ndtri(np.array(tails)), strict=True):
            miss = (mpmath.ncdf(float(quantile)) - mpmath.mpf(tail)) / mpmath.npdf(float(quantile))
            assert abs(miss) * STD < 2.0**-27


def test_the_farthest_uniforms_stay_within_fourteen_deviations():
    drawn = invert(*halves([0, 1, 2**127 - 1, 2**127, 2**127 + 1, 2**128 - 1])).tolist()
    assert 13 * STD < drawn[1] < drawn[0] < 14 * STD
    assert drawn[2] == drawn[5] == 0
    assert drawn[3:5] == [-drawn[0], -drawn[1]]


@pytest.mark.parametrize("k", [0, 1, 2, 1000])
def test_the_rarest_draws_are_rounded_to_the_last_bit_too(k):
    """There the ½ of a tail probability (k + ½)·2**-128 counts."""
    with mpmath.workprec(400):
        tail = (k + mpmath.mpf(0.5)) / 2**128
        start = -float(ndtri(float(tail)))
        exact = mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2 / tail), start)
        assert invert(*halves([k])).tolist() == [int(mpmath.nint(exact * STD))]


def test_every_draw_has_128_bits_and_every_inclusion_64_bits_of_its_own(monkeypatch):
    """Statistics would not notice that some were used twice."""
    words = np.array([0, 0, 2**63, 3, 5, 2**63], dtype=np.uint64)
    asked: list[int] = []
    monkeypatch.setattr(noise, "_random_words", lambda count: asked.append(count) or words[:count])
    drawn = NoiseSource().integers((3,))
    assert drawn.tolist() == invert(*halves([3, 5, (2**63 << 64) | 2**63])).tolist()
    assert len(set(drawn.tolist())) == 3
    assert NoiseSource().bernoulli(3, 0.5).tolist() == [True, True, False]
    assert NoiseSource().bernoulli(1, 0.0).tolist() == [False]
    assert asked == [6, 3, 1]


@pytest.mark.promise("sampling")
@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5, 0.97])
def test_inclusions_are_bernoulli_and_pairwise_independent(rate, measured):
    records, steps = 500, 2000
    included = np.stack([NoiseSource().bernoulli(records, rate) for _ in range(steps)])
    assert included.dtype == np.bool_
    counts = included.sum(axis=0)
    chi_square = float(((counts - steps * rate) ** 2 / (steps * rate * (1 - rate))).sum())
    measured(p_of_the_rate=stats.chi2(records).sf(chi_square))
    assert stats.chi2(records).sf(chi_square) > 1e-6
    sizes = included.sum(axis=1)
    assert abs(sizes.var() / (records * rate * (1 - rate)) - 1) < 0.2
    centred = (included - rate) / math.sqrt(rate * (1 - rate))
    pairs = (centred.T @ centred)[np.triu_indices(records, 1)] / math.sqrt(steps)
    assert abs((pairs**2).mean() - 1) < 0.15


def test_inclusion_is_certain_at_one_impossible_at_zero_and_empty_without_records():
    source = NoiseSource()
    assert source.bernoulli(1000, 1.0).all()
    assert source.bernoulli(1000, 1.0).dtype == np.bool_
    assert not source.bernoulli(1000, 0.0).any()
    assert not source.bernoulli(1000, 1e-300).any()
    assert source.bernoulli(0, 0.5).shape == (0,)
    assert source.integers((0, 4)).shape == (0, 4)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(UsageError, match=r"sample rate .* must be in \[0, 1\]"):
        NoiseSource().bernoulli(10, rate)


SHAPE = (3, 4)
coordinates = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.floats(-(2.0**-10), 2.0**-10, width=32),
    st.sampled_from([0.0, 1.0, 1e38, -1e38, 1e-45]),
)
records = st.one_of(
    st.lists(coordinates, min_size=12, max_size=12),
    coordinates.map(lambda x: [x] * 12),
    coordinates.map(lambda x: [x] + [0.0] * 11),
)


def tensor(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), *SHAPE)


@pytest.mark.promise("sensitivity")
@settings(max_examples=500, deadline=None)
@given(
    rows=st.lists(records, max_size=6),
    extra=records,
    beside=st.sampled_from([None, 1, -1]),
    place=st.integers(0, 6),
    clip_norm=st.sampled_from([1.0, 0.1, 3.7, 1e-4]),
    noise_multiplier=st.sampled_from([0.01, 0.3, 1.0, 1.7, 40.0, 1000.0]),
)
def test_adding_a_record_moves_the_sum_by_at_most_the_clipping_norm(
    rows, extra, beside, place, clip_norm, noise_multiplier, measured
):
    """Beside it there may be the same record once more, or with the other of two labels."""
    if beside:
        rows = [*rows, [beside * x for x in extra]]
    grid = noise_multiplier * clip_norm / STD
    without = clip_to_grid(tensor(rows), clip_norm, grid)
    added = clip_to_grid(tensor([*rows[:place], extra, *rows[place:]]), clip_norm, grid)
    assert added.dtype == torch.int64
    assert added.shape == SHAPE
    moved = sum(int(x) ** 2 for x in (added - without).flatten())
    measured(moved_over_C=math.sqrt(moved) / (clip_norm / grid))
    assert math.sqrt(moved) <= clip_norm / grid * (1 + 1e-6)
    if not all(map(math.isfinite, np.float32(extra).tolist())):
        assert moved == 0


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=7), data=st.data())
def test_the_sum_is_bit_for_bit_that_of_the_records_alone_in_any_order(rows, data):
    grid = 1.3 / STD
    alone = sum(clip_to_grid(tensor([row]), 1.0, grid) for row in rows)
    shuffled = data.draw(st.permutations(rows))
    assert torch.equal(clip_to_grid(tensor(shuffled), 1.0, grid), alone)


def test_a_large_batch_sums_bit_for_bit_as_its_records():
    rows = torch.randn(33, 20, 768, generator=torch.Generator().manual_seed(3))
    alone = sum(clip_to_grid(row[None], 1.0, 2.0**-20) for row in rows)
    assert torch.equal(clip_to_grid(rows, 1.0, 2.0**-20), alone)


@pytest.mark.parametrize("width", [1, 12, 15_360, 409_600])
def test_clipping_keeps_the_direction_and_nearly_the_whole_norm(width):
    row = torch.randn(1, width, generator=torch.Generator().manual_seed(4)) * 50
    grid = 2.0**-26
    clipped = clip_to_grid(row, 1.0, grid).double() * grid
    expected = row[0].double() / max(1.0, row.double().norm())
    assert clipped.norm() <= 1
    assert (clipped - expected).norm() < 2e-4


def test_a_short_record_on_the_grid_is_kept_exactly():
    units = torch.tensor([[3, -4, 0], [-1, 2, 2], [0, 0, 0]])
    grid = 2.0**-7
    assert clip_to_grid(units * grid, 1.0, grid).tolist() == [2, -2, 2]


def test_a_record_as_long_as_the_norm_is_shortened_until_whole_steps_fit():
    """The double 0.1 is above a tenth: ten such steps exceed 1, though 1 / 0.1 is 10.0 in doubles."""
    assert clip_to_grid(torch.tensor([[1.0, 0.0]], dtype=torch.float64), 1.0, 0.1).tolist() == [9, 0]
    among = torch.tensor([[0.3, 0.2], [1.0, 0.0], [0.2, 0.0]], dtype=torch.float64)
    assert clip_to_grid(among, 1.0, 0.1).tolist() == [2 + 9 + 2, 2]


@pytest.mark.promise("sensitivity")
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 1024, 15_360, 32_768])
def test_the_widest_and_most_even_gradients_neither_overflow_nor_get_too_long(width, measured):
    for grid in (2.0**-20, 2.0**-30):
        (row,) = clip_to_grid(torch.full((1, 1, width), -7.0), 1.0, grid).tolist()
        assert len(set(row)) == 1
        length = math.sqrt(width * row[0] ** 2) * grid
        measured(moved_over_C=length)
        assert 1 - width**0.5 * grid - 1e-6 <= length <= 1
        assert row[0] < 0


def test_no_records_give_zeros_and_a_record_with_one_bad_value_gives_nothing():
    empty = clip_to_grid(torch.zeros(0, 3, 4), 1.0, 0.01)
    assert empty.shape == SHAPE
    assert empty.dtype == torch.int64
    assert not empty.any()
    for bad in (math.nan, math.inf, -math.inf):
        assert clip_to_grid(torch.tensor([[0.5, bad], [0.25, 0.0]]), 1.0, 0.25).tolist() == [1, 0]


def test_gradients_keep_no_graph_and_their_own_values():
    row = torch.full((2, 3), 5.0, requires_grad=True)
    assert not clip_to_grid(row, 1.0, 0.01).requires_grad
    assert torch.equal(row.detach(), torch.full((2, 3), 5.0))


@pytest.mark.parametrize(
    ("clip_norm", "grid"),
    [(1.0, 0.0), (0.0, 0.0), (1.0, -1.0), (1.0, 2.0), (1.0, 1e-12), (math.inf, 1.0), (1.0, 0.999 * 2**-30)],
)
def test_a_grid_that_does_not_fit_the_norm_is_refused(clip_norm, grid):
    with pytest.raises(UsageError, match="grid steps"):
        clip_to_grid(torch.zeros(1, 2), clip_norm, grid)


def test_a_norm_of_one_step_and_one_of_the_most_are_taken():
    row = torch.tensor([[9.0, 0.0]])
    assert clip_to_grid(row, 1.0, 1.0).tolist() == [1, 0]
    assert clip_to_grid(row, 1.0, 2.0**-30).tolist() == [2**30, 0]


def test_the_noised_sum_of_neighbours_is_hard_to_tell_apart():
    """Mechanism audit: clip and noise one Dirac gradient or none, 20 000 times each, σ = 1 and q = 1.

    For μ = 1/σ = 1 the best test's accuracy is Φ(½) = 0.691; less noise or more signal raises it.
    """
    trials = 20_000
    present = int(clip_to_grid(torch.tensor([[9.0]]), 1.0, 1.0 / STD)[0])
    assert present == STD
    source = NoiseSource()
    scores = [shift + source.integers((trials,)) for shift in (0, present)]
    right = (scores[0] < STD / 2).sum() + (scores[1] >= STD / 2).sum()
    assert abs(right / (2 * trials) - stats.norm.cdf(0.5)) < 0.015
