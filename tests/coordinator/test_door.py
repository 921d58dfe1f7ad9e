"""Who may stay at a port, who leaves first, and that a good client is never among them."""

import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from coordinator import sockets
from coordinator.door import Door, DoorLimits
from coordinator.guard import peer_of
from coordinator.sockets import Peer
from transfer.errors import BusyError

GOOD, STRANGER = "127.0.0.1", "127.0.0.2"


class Street:
    """A port of this process whose connections are accepted and held, and a door whose clock stands."""

    def __init__(self, stack: ExitStack, limits: DoorLimits) -> None:
        self.now, self._stack = 100.0, stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.door = Door(limits, clock=lambda: self.now)
        self.door._port = self._listener.getsockname()[1]

    def comes(self, host: str) -> socket.socket:
        """A connection from an address, seen by the door a second after the one before."""
        theirs = self._stack.enter_context(
            socket.create_connection(self._listener.getsockname(), 5, (host, 0))
        )
        self._stack.enter_context(self._listener.accept()[0])
        self.now += 1
        self.door.look()
        return theirs


@pytest.fixture
def street() -> Iterator[Callable[[DoorLimits], Street]]:
    with ExitStack() as stack:
        yield lambda limits: Street(stack, limits)


def is_open(connection: socket.socket) -> bool:
    return not select.select([connection], [], [], 0)[0]


def name(connection: socket.socket) -> Peer:
    return connection.getsockname()


def test_a_connection_that_asks_for_nothing_or_stands_still_is_closed(street) -> None:
    there = street(DoorLimits(first_s=10, quiet_s=20))
    silent, asking = there.comes(GOOD), there.comes(GOOD)
    there.door.noted(name(asking))
    there.now += 9.5
    there.door.look()
    assert [is_open(silent), is_open(asking)] == [False, True]
    there.now += 11
    there.door.look()
    assert not is_open(asking)


def test_one_too_many_costs_the_oldest_connection_of_whoever_has_most(
    street, caplog: pytest.LogCaptureFixture
) -> None:
    there = street(DoorLimits(connections=4, first_s=1000))
    good = there.comes(GOOD)
    flood = [there.comes(STRANGER) for _ in range(6)]
    assert is_open(good)
    assert [is_open(item) for item in flood] == [False] * 3 + [True] * 3
    there.now += 60
    there.door.look()
    told = [
        f"port {there.door._port}: {n} connections too many were closed, most of 127.0.0.2" for n in (1, 2)
    ]
    assert caplog.messages == told  # at most one a minute


def test_in_a_flood_from_the_same_address_who_asks_stays_and_who_is_known_longest(street) -> None:
    there = street(DoorLimits(connections=4, first_s=1000))
    known, asking = there.comes(GOOD), there.comes(GOOD)
    there.door.noted(name(known), known=True)
    flood = []
    for _ in range(6):
        there.door.noted(name(asking))
        flood.append(there.comes(GOOD))
    assert is_open(known)
    assert is_open(asking)
    assert [is_open(item) for item in flood] == [False] * 4 + [True] * 2


def test_a_call_too_many_costs_the_connection_that_stood_still_for_longest_its_calls(street) -> None:
    there = street(DoorLimits(calls=6))
    with ExitStack() as calls:
        flood = [there.comes(STRANGER) for _ in range(2)]
        for number in range(6):
            calls.enter_context(there.door.call(name(flood[number // 3])))
        good = there.comes(GOOD)
        with there.door.call(name(good)):
            assert [is_open(item) for item in flood] == [False, True]
            assert there.door._calls == 4
    assert there.door._calls == 0


def test_calls_that_get_on_are_not_given_up_for_another_of_the_same_peer(street) -> None:
    there = street(DoorLimits(calls=2))
    with ExitStack() as calls:
        busy = [there.comes(STRANGER) for _ in range(3)]
        there.now += 10
        for connection in busy[:2]:
            calls.enter_context(there.door.call(name(connection)))
        with pytest.raises(BusyError, match="2 calls are in progress"), there.door.call(name(busy[2])):
            pass
        good = there.comes(GOOD)
        with there.door.call(name(good)):
            assert [is_open(item) for item in busy] == [False, True, True]


def test_who_has_many_calls_gives_some_up_even_if_they_all_get_on(street) -> None:
    there = street(DoorLimits(calls=4))
    hog, good = there.comes(GOOD), there.comes(GOOD)
    with ExitStack() as calls:
        for _ in range(4):
            calls.enter_context(there.door.call(name(hog)))
        with there.door.call(name(good)):
            assert [is_open(hog), is_open(good)] == [False, True]


def test_it_works_when_no_file_can_be_opened(street) -> None:
    there = street(DoorLimits(connections=3, first_s=1000))
    flood = [there.comes(STRANGER) for _ in range(3)]
    there.door.limits = DoorLimits(connections=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.dup(0)
    os.close(taken)  # the lowest free descriptor
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        there.door.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [is_open(item) for item in flood] == [False, False, True]


def test_only_connections_accepted_at_the_port_are_touched(street) -> None:
    there = street(DoorLimits(connections=1, first_s=1))
    with ExitStack() as stack:
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(other.getsockname(), 5))
        accepted = stack.enter_context(other.accept()[0])
        there.comes(GOOD)
        there.now += 100
        there.door.look()
        assert is_open(ours)
        assert is_open(accepted)


def test_a_look_at_a_thousand_connections_takes_a_moment(street) -> None:
    there = street(DoorLimits(first_s=10_000))
    for _ in range(50):
        there.comes(STRANGER)
    started = time.process_time()
    there.door.look()
    assert time.process_time() - started < 0.05


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B2001:db8::1%5D:80", ("2001:db8::1", 80)),
        ("ipv6:[::ffff:192.0.2.1]:80", ("192.0.2.1", 80)),
    ],
)
def test_what_grpc_calls_a_peer_is_understood(text: str, peer: Peer) -> None:
    assert peer_of(text) == peer


def test_a_network_of_64_bits_is_one_peer() -> None:
    assert sockets.group("2001:db8::1") == sockets.group("2001:db8::ffff") != sockets.group("2001:db8:0:1::1")
    assert sockets.group("::ffff:192.0.2.1") == sockets.group("192.0.2.1") != sockets.group("192.0.2.2")
    assert sockets.group("fe80::1%eth0") == "fe80::/64"


def test_as_many_files_are_asked_for_as_the_system_gives() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert sockets.room(2, 2000) == min(2000, (min(hard, 65_536) - 256) // 4)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
