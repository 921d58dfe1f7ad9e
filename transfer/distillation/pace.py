"""How fast a distillation goes and how long it may still take, as a log line at each held-out measurement."""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta

from transfer.distillation.exercises import Exercise

logger = logging.getLogger(__name__)


class Pace:
    """The tokens, padding excluded, and the seconds of the steps since a distillation was begun or continued."""

    def __init__(self, step: int, steps: int) -> None:
        """Begin at `step` of at most `steps`."""
        self._first, self._steps = step, steps
        self._tokens, self._start = 0, time.monotonic()

    def took(self, parts: Sequence[Exercise]) -> None:
        """Count the tokens of one step."""
        self._tokens += sum(int(part.mask.sum()) for part in parts)

    def tell(self, step: int, kl: float) -> None:
        """Log the held-out KL after `step`, tokens a second, and the time left if no plateau ends it earlier."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        left = timedelta(seconds=round(seconds / max(1, step - self._first) * (self._steps - step)))
        logger.info(
            "step %d of %d: held-out KL %.3f nats, %.0f tokens a second, at most %s left",
            step, self._steps, kl, self._tokens / seconds, left,
        )  # fmt: skip
