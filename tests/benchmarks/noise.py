"""Nanoseconds a draw of the cryptographic noise, and seconds to build its table.

python tests/benchmarks/noise.py
"""

import time

from client import noise

DRAWS = 409_600
REPEATS = 15


def main() -> None:
    start = time.perf_counter()
    noise.table_digest()
    print(f"table build {time.perf_counter() - start:.2f} s")
    source = noise.NoiseSource()
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
