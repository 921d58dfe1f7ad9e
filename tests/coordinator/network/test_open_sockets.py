"""This process's own sockets: who is at their other end."""

import os
import resource
import socket
import time
from contextlib import ExitStack

import pytest

from coordinator.delivery.interceptor import peer_of
from coordinator.network import open_sockets as sockets
from coordinator.network.admission import AdmissionLimits
from coordinator.network.open_sockets import Peer
from tests.coordinator.network.ports import GOOD, STRANGER, is_open


def test_it_works_when_no_file_can_be_opened(street) -> None:
    there = street(AdmissionLimits(connections=3, first_s=1000))
    flood = [there.comes(STRANGER) for _ in range(3)]
    there.door.limits = AdmissionLimits(connections=1)
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
    there = street(AdmissionLimits(connections=1, first_s=1))
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
    there = street(AdmissionLimits(first_s=10_000))
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
