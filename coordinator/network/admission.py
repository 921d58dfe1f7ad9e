"""The door of one listening port: how many connections and calls it bears, and who leaves first.

gRPC and uvicorn take whoever comes, know no limit for one peer, and cannot end a connection that was accepted.
So the door looks at this process's own sockets, is told what each of them does, and shuts those down that never
ask for anything, that stand still, or that are one too many. The server at the other end of a socket then finds
it closed by its peer, which it must bear anyway.
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
TOLD_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What strangers may take of one port.

    Attributes:
        connections: at once, ≥ 1; beyond, the one that stood still for longest leaves, of the peer with most.
        calls: in progress at once, ≥ 1; beyond, a connection is chosen in the same way among those with calls.
        first_s: longest time a connection may take to bring its first request, TLS handshake included.
        quiet_s: longest time between two signs of life of a connection without a call.
        spare_s: a connection that did something within this time leaves only for one, or a peer, with fewer calls.
    """

    connections: int = 2000
    calls: int = 1000
    first_s: float = 15.0
    quiet_s: float = 90.0
    spare_s: float = 1.0


@dataclass(slots=True, eq=False)
class _Visit:
    """A connection: whose it is, its socket (descriptor and inode), and what it did."""

    group: str
    since: float
    last: float
    socket: tuple[int, int] | None = None
    calls: int = 0
    asked: bool = False
    known: bool = False


class Admission:
    """Watches the connections of a port in a thread, between `open` and `close`.

    Args:
        limits: what strangers may take.
        clock: seconds that never go back.
    """

    def __init__(self, limits: AdmissionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._visits: dict[Peer, _Visit] = {}
        self._sockets: dict[tuple[int, int], Peer | None] = {}
        self._calls = 0
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._port = 0
        self._too_many, self._told = Counter[str](), -TOLD_EVERY_S

    def open(self, port: int) -> Self:
        """Begin to watch the connections that were accepted at `port`."""
        self._port = port
        self._thread = threading.Thread(target=self._watch, name=f"door-{port}", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """End watching; connections stay as they are."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def noted(self, peer: Peer, *, known: bool = False) -> None:
        """A connection did something; `known` if it proved to be a client's: such leave last."""
        with self._lock:
            visit = self._visit(peer)
            visit.last, visit.asked, visit.known = self._clock(), True, visit.known or known

    @contextmanager
    def call(self, peer: Peer) -> Iterator[None]:
        """Room for one call of a connection.

        Raises:
            BusyError: there is none, all others get on, and this one has no fewer calls than they.
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
                if visit.calls:  # else it was sent away, and its calls were no longer counted
                    visit.calls -= 1
                    self._calls -= 1
                    visit.last = self._clock()

    def hang_up(self, peer: Peer) -> None:
        """End a connection now."""
        with self._lock:
            if (visit := self._visits.get(peer)) and visit.socket is None:
                self._find(list(open_sockets()), self._clock())  # so new that no look has seen it yet
            self._send_away(peer)

    def look(self) -> None:
        """Find who came and went, and send away who may not stay."""
        started, found = self._clock(), list(open_sockets())  # slow, so not while others wait
        with self._lock:
            self._find(found, started)
            now, limits = self._clock(), self.limits
            for peer, visit in list(self._visits.items()):
                patience_s = limits.quiet_s if visit.asked else limits.first_s
                if not visit.calls and now - visit.last > patience_s:  # calls have limits of their own
                    self._send_away(peer)
            for peer in self._leaving(len(self._visits) - limits.connections):
                self._too_many[self._visits[peer].group] += 1
                self._send_away(peer)
            self._tell(now)

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            self.look()

    def _tell(self, now: float) -> None:
        """Once in a while, that some had to leave for others; routine ends are no news."""
        if self._too_many and now - self._told >= TOLD_EVERY_S:
            (most, _), number = self._too_many.most_common(1)[0], self._too_many.total()
            logger.warning(
                "port %d: %d connections too many were closed, most of %s", self._port, number, most
            )
            self._too_many.clear()
            self._told = now

    def _visit(self, peer: Peer) -> _Visit:
        if peer not in self._visits:
            now = self._clock()
            self._visits[peer] = _Visit(group(peer[0]), now, now)
        return self._visits[peer]

    def _make_room(self, newcomer: _Visit) -> None:
        """End the calls of one connection of the peer with most calls.

        The one that stood still for longest, or, where all get on, the one with most calls.
        """
        sizes = Counter[str]()
        for visit in self._visits.values():
            sizes[visit.group] += visit.calls
        since = self._clock() - self.limits.spare_s

        def rank(peer: Peer) -> tuple[int, bool, int, float]:
            visit = self._visits[peer]
            gets_on = visit.last > since
            return -sizes[visit.group], gets_on, -visit.calls * gets_on, visit.last

        last = min((peer for peer, visit in self._visits.items() if visit.calls), key=rank)
        visit = self._visits[last]
        has_more = sizes[visit.group] > sizes[newcomer.group] + 1 or visit.calls > newcomer.calls + 1
        if visit is newcomer or (visit.last > since and not has_more):
            raise BusyError(f"{self._calls} calls are in progress; try again later")
        self._too_many[visit.group] += 1
        self.hang_up(last)

    def _leaving(self, number: int) -> list[Peer]:
        """Each time one of the peer that has most: no known one, and the one that stood still for longest."""
        if number <= 0:
            return []
        lines: defaultdict[str, deque[Peer]] = defaultdict(deque)
        for peer, visit in sorted(self._visits.items(), key=lambda item: (item[1].known, item[1].last)):
            lines[visit.group].append(peer)
        return [max(lines.values(), key=len).popleft() for _ in range(number)]

    def _send_away(self, peer: Peer) -> None:
        visit = self._visits.pop(peer, None)
        if visit is None:
            return
        self._calls -= visit.calls
        visit.calls = 0
        if visit.socket is not None:
            self._sockets[visit.socket] = None  # it is not found again before its owner closes it
            shut_down(*visit.socket)

    def _find(self, found: list[tuple[int, int]], started: float) -> None:
        """Bring the visits up to date with the sockets that were found open after `started`."""
        known, self._sockets = self._sockets, {}
        for key in found:
            self._sockets[key] = peer = known[key] if key in known else peer_at(key[0], self._port)
            if peer is not None:
                self._visit(peer).socket = key
        there = set(self._sockets.values())
        for peer, visit in list(self._visits.items()):
            if peer not in there and visit.since < started:
                self._calls -= visit.calls
                visit.calls = 0
                del self._visits[peer]
