"""Admission to one listening port: limits of connections and calls, and which connection ends first.

gRPC and uvicorn accept every connection, have no limit for one peer, and cannot end an accepted connection. This
module therefore lists this process's own sockets and receives a report of what each connection does. It shuts down
connections that never send a request, that are idle for too long, or that exceed a limit. The server sees such a
connection as closed by its peer, which it must handle anyway.
"""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from coordinator.network.open_sockets import Peer, group, open_sockets, peer_at, shut_down
from transfer.errors import BusyError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
REPORT_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits of one port for strangers; times are in seconds.

    Attributes:
        connections: most connections at once, ≥ 1; beyond, the peer with most of them loses its longest idle one.
        calls: most calls at once, ≥ 1; beyond, the peer with most calls loses a connection in the same way.
        first_s: longest time from a connection to its first request, including the TLS handshake.
        quiet_s: longest time between two signs of life of a connection without a call.
        spare_s: a connection active within this time ends only for a connection, or a peer, with fewer calls.
    """

    connections: int = 2000
    calls: int = 1000
    first_s: float = 15.0
    quiet_s: float = 90.0
    spare_s: float = 1.0


@dataclass(slots=True, eq=False)
class _Visit:
    """A connection: its peer's group, its socket (descriptor and inode), and its activity."""

    group: str
    since: float
    last: float
    socket: tuple[int, int] | None = None
    calls: int = 0
    active: bool = False
    known: bool = False


class Admission:
    """Watches the connections of a port in a thread, between `open` and `close`.

    Args:
        limits: limits for strangers.
        clock: returns monotonic seconds.
    """

    def __init__(self, limits: AdmissionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._visits: dict[Peer, _Visit] = {}
        self._sockets: dict[tuple[int, int], Peer | None] = {}
        self._calls = 0
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._port = 0
        self._too_many, self._reported = Counter[str](), -REPORT_EVERY_S

    def open(self, port: int) -> Self:
        """Start to watch the connections accepted at `port`."""
        self._port = port
        self._thread = threading.Thread(target=self._watch, name=f"door-{port}", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching; connections stay as they are."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def noted(self, peer: Peer, *, known: bool = False) -> None:
        """Record a sign of life of a connection; `known` if it proved to be a client's, which ends last."""
        with self._lock:
            visit = self._visit(peer)
            visit.last, visit.active, visit.known = self._clock(), True, visit.known or known

    @contextmanager
    def call(self, peer: Peer) -> Iterator[None]:
        """Admit one call of a connection for the duration of the body.

        Raises:
            BusyError: the limit is reached, every other call makes progress, and no connection or peer has more
                calls than this one.
        """
        with self._lock:
            self.noted(peer)
            visit = self._visit(peer)
            if self._calls >= self.limits.calls:
                self._make_room(visit)
            visit.calls += 1
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                if visit.calls:  # 0 after the connection was ended, when its calls left the count
                    visit.calls -= 1
                    self._calls -= 1
                    visit.last = self._clock()

    def hang_up(self, peer: Peer) -> None:
        """End a connection now."""
        with self._lock:
            if (visit := self._visits.get(peer)) and visit.socket is None:
                self._update(list(open_sockets()), self._clock())  # too new for any earlier look
            self._end(peer)

    def look(self) -> None:
        """Update the connections from the open sockets, and end those that exceed a limit."""
        started, sockets = self._clock(), list(open_sockets())  # slow, so outside the lock
        with self._lock:
            self._update(sockets, started)
            now, limits = self._clock(), self.limits
            for peer, visit in list(self._visits.items()):
                patience_s = limits.quiet_s if visit.active else limits.first_s
                if not visit.calls and now - visit.last > patience_s:  # calls have limits of their own
                    self._end(peer)
            for peer in self._leaving(len(self._visits) - limits.connections):
                self._too_many[self._visits[peer].group] += 1
                self._end(peer)
            self._report(now)

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            self.look()

    def _report(self, now: float) -> None:
        """Log from time to time how many connections exceeded a limit; other ends are not logged."""
        if self._too_many and now - self._reported >= REPORT_EVERY_S:
            (most, _), number = self._too_many.most_common(1)[0], self._too_many.total()
            logger.warning(
                "port %d: %d connections too many were closed, most of %s", self._port, number, most
            )
            self._too_many.clear()
            self._reported = now

    def _visit(self, peer: Peer) -> _Visit:
        if peer not in self._visits:
            now = self._clock()
            self._visits[peer] = _Visit(group(peer[0]), now, now)
        return self._visits[peer]

    def _make_room(self, newcomer: _Visit) -> None:
        """End one connection of the peer with most calls.

        It is the connection idle for longest or, if all make progress, the one with most calls.
        """
        sizes = Counter[str]()
        for visit in self._visits.values():
            sizes[visit.group] += visit.calls
        since = self._clock() - self.limits.spare_s

        def rank(peer: Peer) -> tuple[int, bool, int, float]:
            visit = self._visits[peer]
            is_active = visit.last > since
            return -sizes[visit.group], is_active, -visit.calls * is_active, visit.last

        last = min((peer for peer, visit in self._visits.items() if visit.calls), key=rank)
        visit = self._visits[last]
        has_more = sizes[visit.group] > sizes[newcomer.group] + 1 or visit.calls > newcomer.calls + 1
        if visit is newcomer or (visit.last > since and not has_more):
            raise BusyError(f"{self._calls} calls are in progress; try again later")
        self._too_many[visit.group] += 1
        self.hang_up(last)

    def _leaving(self, number: int) -> list[Peer]:
        """Return `number` connections to end, each of the peer with most left: unknown and longest idle first."""
        if number <= 0:
            return []
        lines: defaultdict[str, deque[Peer]] = defaultdict(deque)
        for peer, visit in sorted(self._visits.items(), key=lambda item: (item[1].known, item[1].last)):
            lines[visit.group].append(peer)
        return [max(lines.values(), key=len).popleft() for _ in range(number)]

    def _end(self, peer: Peer) -> None:
        visit = self._visits.pop(peer, None)
        if visit is None:
            return
        self._calls -= visit.calls
        visit.calls = 0
        if visit.socket is not None:
            self._sockets[visit.socket] = None  # ignored until its owner closes it
            shut_down(*visit.socket)

    def _update(self, sockets: list[tuple[int, int]], started: float) -> None:
        """Update the visits to the sockets that were open after `started`."""
        known, self._sockets = self._sockets, {}
        for key in sockets:
            self._sockets[key] = peer = known[key] if key in known else peer_at(key[0], self._port)
            if peer is not None:
                self._visit(peer).socket = key
        connected = set(self._sockets.values())
        for peer, visit in list(self._visits.items()):
            if peer not in connected and visit.since < started:  # a younger one may be missing from the list
                self._calls -= visit.calls
                visit.calls = 0
                del self._visits[peer]
