"""Nanoseconds a draw of the cryptographic noise and of the Poisson sampling.

python tests/benchmarks/noise.py
"""

import time

from client.noise import NoiseSource

DRAWS = 409_600
REPEATS = 15


def main() -> None:
    source = NoiseSource()
    for name, draw in (
        ("integers", lambda: source.integers((100, 4096))),
        ("bernoulli", lambda: source.bernoulli(DRAWS, 0.01)),
    ):
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            draw()
            seconds.append(time.perf_counter() - start)
        seconds.sort()
        print(
            f"{name:9} median {seconds[REPEATS // 2] / DRAWS * 1e9:.0f} ns, "
            f"worst {seconds[-1] / DRAWS * 1e9:.0f} ns a draw ({DRAWS} draws × {REPEATS})"
        )


if __name__ == "__main__":
    main()
