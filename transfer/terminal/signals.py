"""The end of both daemons: requested by a signal, in order, and in bounded time."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def stopped_by_signals(within_s: float) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; end the process if it still runs `within_s` seconds later.

    Use it only where being killed loses nothing, that is, where all finished work is already on disk.
    """
    stop = threading.Event()
    end = threading.Timer(within_s, os._exit, (0,))
    end.daemon = True

    def on_signal(number: int, _frame: object) -> None:
        logger.info("%s: stopping", signal.Signals(number).name)
        if not stop.is_set():
            stop.set()
            end.start()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        end.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
