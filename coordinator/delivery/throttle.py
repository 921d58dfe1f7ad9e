"""Enrolments that were refused: slowed more each time, and told in the log without flooding it."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from coordinator.network.open_sockets import group
from transfer.errors import AlreadyExistsError, AuthenticationError, BusyError, PromptferryError, UsageError

logger = logging.getLogger(__name__)

REFUSALS = (AuthenticationError, UsageError, AlreadyExistsError)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 20.0
FORGIVEN_AFTER_S = 600.0
WAITING = 16
"""Refused enrolments of one peer that wait at once; more are turned away unread until one of them is over."""
PEERS = 4096
"""Peers remembered at most; who was refused longest ago is forgotten."""
LINES, LINES_S = 20, 60.0
"""Refusals told one by one within a span; the rest are counted."""


@dataclass(slots=True)
class _Record:
    number: int = 0
    last: float = 0.0
    waiting: int = 0


class Refusals:
    """For use on one event loop; honest enrolments pass without a wait whatever others do.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._told, self._untold, self._span = 0, 0, clock()

    @asynccontextmanager
    async def slowed(self, host: str, client: str) -> AsyncIterator[None]:
        """Within it an enrolment is tried; if it is refused, the refusal is logged and held back for a time.

        Args:
            host: address it comes from.
            client: name it is for, as the stranger wrote it.

        Raises:
            BusyError: too many refused enrolments of this peer are waiting already.
        """
        known = self._records.get(group(host))
        if known is not None and known.waiting >= WAITING:
            self._tell(None)
            raise BusyError(f"too many refused enrolments from {host}; try again in {LONGEST_WAIT_S:g} s")
        try:
            yield
        except PromptferryError as error:
            if type(error) not in REFUSALS:  # a failure of ours, which may be one of their subclasses
                raise
            record = self._refused(group(host))
            wait_s = min(FIRST_WAIT_S * 2.0 ** (record.number - 1), LONGEST_WAIT_S)
            why = "; ".join(getattr(error, "__notes__", [])) or str(error)
            self._tell(f"enrolment of {client[:64]!r} refused to {host}: {why[:200]!r}")
            record.waiting += 1
            try:
                await asyncio.sleep(wait_s)
            finally:
                record.waiting -= 1
            raise

    def _refused(self, peer: str) -> _Record:
        now = self._clock()
        record = self._records.setdefault(peer, _Record())
        if now - record.last > FORGIVEN_AFTER_S:
            record.number = 0
        record.number, record.last = min(record.number + 1, 32), now
        self._records.move_to_end(peer)
        if len(self._records) > PEERS:
            self._records.popitem(last=False)
        return record

    def _tell(self, line: str | None) -> None:
        """One line, or a count of those left out once their span is over."""
        now = self._clock()
        if now - self._span > LINES_S:
            if self._untold:
                logger.warning("%d more enrolments were refused", self._untold)
            self._told, self._untold, self._span = 0, 0, now
        if line is None or self._told >= LINES:
            self._untold += 1
            return
        self._told += 1
        logger.warning("%s", line)
