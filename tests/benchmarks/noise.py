"""Nanoseconds a draw of the cryptographic noise and of the Poisson sampling.

python tests/benchmarks/noise.py
"""

import time
from collections.abc import Callable

from client.private.noise import NoiseSource

DRAWS = 409_600
REPEATS = 15


def main() -> None:
    source = NoiseSource()
    for name, draw in (
        ("integers", lambda: source.integers((100, 4096))),
        ("bernoulli", lambda: source.bernoulli(DRAWS, 0.01)),
    ):
        median, worst = median_and_worst_ns(draw)
        print(f"{name:9} median {median:.0f} ns, worst {worst:.0f} ns a draw ({DRAWS} draws × {REPEATS})")


def median_and_worst_ns(draw: Callable[[], object]) -> tuple[float, float]:
    """Nanoseconds a draw of a call that makes `DRAWS` of them."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    return seconds[REPEATS // 2] / DRAWS * 1e9, seconds[-1] / DRAWS * 1e9


if __name__ == "__main__":
    main()
