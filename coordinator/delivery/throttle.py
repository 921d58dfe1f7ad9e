"""Throttle of refused enrolments: each refusal slows the next, and the log stays short."""

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
"""Most refused enrolments of one peer that wait at once; while they wait, further ones are refused unread."""
PEERS = 4096
"""Most peers in memory; the peer with the oldest refusal leaves first."""
LINES, LINES_S = 20, 60.0
"""Most refusals logged one by one within so many seconds; the others are counted."""


@dataclass(slots=True)
class _Record:
    number: int = 0
    last: float = 0.0
    waiting: int = 0


class Refusals:
    """The refusals of recent peers; use it on one event loop. An honest enrolment never waits.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._logged, self._counted, self._span = 0, 0, clock()

    @asynccontextmanager
    async def slowed(self, host: str, client: str) -> AsyncIterator[None]:
        """Try an enrolment in the body; if it is refused, log the refusal and delay its answer.

        Args:
            host: address of the caller.
            client: client's name, as the caller wrote it.

        Raises:
            BusyError: too many refused enrolments of this peer wait already.
        """
        known = self._records.get(group(host))
        if known is not None and known.waiting >= WAITING:
            self._log(None)
            raise BusyError(f"too many refused enrolments from {host}; try again in {LONGEST_WAIT_S:g} s")
        try:
            yield
        except PromptferryError as error:
            if type(error) not in REFUSALS:  # the coordinator's own failure, which may be a subclass of one
                raise
            record = self._refused(group(host))
            wait_s = min(FIRST_WAIT_S * 2.0 ** (record.number - 1), LONGEST_WAIT_S)
            why = "; ".join(getattr(error, "__notes__", [])) or str(error)
            self._log(f"enrolment of {client[:64]!r} refused to {host}: {why[:200]!r}")
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

    def _log(self, line: str | None) -> None:
        """Log one line, or count it; log the count once its span is over."""
        now = self._clock()
        if now - self._span > LINES_S:
            if self._counted:
                logger.warning("%d more enrolments were refused", self._counted)
            self._logged, self._counted, self._span = 0, 0, now
        if line is None or self._logged >= LINES:
            self._counted += 1
            return
        self._logged += 1
        logger.warning("%s", line)
