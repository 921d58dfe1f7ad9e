"""What tests of this room share."""

import numpy as np
import pytest

import client.private.dpsgd
from client.private.noise import NoiseSource, clip_to_grid
from client.private.records import PrivateRecords

WORDS = ("good", "great", "fun", "awful", "dull", "slow", "film", "plot", "actor", "music", "city", "team")


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    drawn = NoiseSource.integers
    patch.setattr(NoiseSource, "integers", lambda self, shape: drawn(self, shape) // 2)


def no_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NoiseSource, "integers", lambda _self, shape: np.zeros(shape, dtype=np.int64))


def three_times_the_clip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        client.private.dpsgd, "clip_to_grid", lambda rows, clip, grid: clip_to_grid(rows, 3 * clip, grid)
    )


def records(count: int) -> PrivateRecords:
    """Texts of random words with random labels: nothing to learn but the records themselves."""
    draw = np.random.default_rng(3)
    texts = tuple(" ".join(draw.choice(WORDS, 8)) for _ in range(count))
    return PrivateRecords(texts, tuple(draw.integers(0, 2, count).tolist()))
