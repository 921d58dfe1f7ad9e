"""Who may stay at a port, who leaves first, and that a good client is never among them."""

import resource
import socket
from contextlib import ExitStack

import pytest

from coordinator.network import open_sockets as sockets
from coordinator.network.admission import AdmissionLimits
from coordinator.network.open_sockets import Peer
from tests.coordinator.network.ports import GOOD, STRANGER, is_open
from transfer.errors import BusyError


def name(connection: socket.socket) -> Peer:
    return connection.getsockname()


def test_a_connection_that_asks_for_nothing_or_stands_still_is_closed(street) -> None:
    there = street(AdmissionLimits(first_s=10, quiet_s=20))
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
    there = street(AdmissionLimits(connections=4, first_s=1000))
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
    there = street(AdmissionLimits(connections=4, first_s=1000))
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
    there = street(AdmissionLimits(calls=6))
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
    there = street(AdmissionLimits(calls=2))
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
    there = street(AdmissionLimits(calls=4))
    hog, good = there.comes(GOOD), there.comes(GOOD)
    with ExitStack() as calls:
        for _ in range(4):
            calls.enter_context(there.door.call(name(hog)))
        with there.door.call(name(good)):
            assert [is_open(hog), is_open(good)] == [False, True]


def test_as_many_files_are_asked_for_as_the_system_gives() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert sockets.room(2, 2000) == min(2000, (min(hard, 65_536) - 256) // 4)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
