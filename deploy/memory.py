"""The most memory that a stage took: resident bytes of this process and of all that it started, sampled."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SAMPLE_S = 0.2
"""Seconds between samples; a peak shorter than that may be missed."""


class Peak:
    """The largest sum of resident bytes seen so far; pages that processes share count once for each."""

    bytes = 0

    def sample(self) -> None:
        """Count what is resident now."""
        mine = psutil.Process()
        self.bytes = max(self.bytes, sum(map(_resident, [mine, *mine.children(recursive=True)])))


@contextmanager
def watching() -> Iterator[Peak]:
    """Sample memory until the body ends."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            peak.sample()

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    peak.sample()
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # it ended between the list and the look
        return 0
