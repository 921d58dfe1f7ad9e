"""How both daemons end: asked by a signal, finished in order, and gone in bounded time."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def stopped_by_signals(within_s: float) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a process still there `within_s` seconds later is ended.

    For whom a hard end loses nothing: everything that was finished must be durable already.
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
