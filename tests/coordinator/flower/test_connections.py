"""How a node finds its coordinator, and when it gives up."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from client.daemon.link import Link
from client.daemon.polling import serve
from coordinator.flower.federation import Federation
from transfer.errors import (
    AuthenticationError,
    UnavailableError,
)


def eventually(true: Callable[[], object], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_an_unregistered_key_is_told_at_once(federation, nodes):
    nodes.keys["stranger"] = ec.generate_private_key(ec.SECP384R1())
    nodes.start(federation, "stranger", bytes).join(10)
    assert isinstance(nodes.raised["stranger"], AuthenticationError)
    assert "enrol" in str(nodes.raised["stranger"])
    assert federation.address in str(nodes.raised["stranger"])


def test_a_node_that_is_unregistered_while_connected_ends_with_an_authentication_error(federation, nodes):
    nodes.enrol(federation, "revoked")
    thread = nodes.start(federation, "revoked", bytes)
    nodes.await_online(federation, "revoked")
    federation.unregister("revoked")
    thread.join(10)
    assert isinstance(nodes.raised["revoked"], AuthenticationError)
    assert "revoked" not in federation.online()


def test_a_server_with_another_ca_is_not_retried(federation, pki):
    link = Link(
        federation.address, (pki / "stranger.pem").read_bytes(), ec.generate_private_key(ec.SECP384R1())
    )
    with pytest.raises(UnavailableError, match=f"{federation.address}.*not signed by the pinned CA"):
        serve(link, bytes, threading.Event())


def test_a_second_daemon_with_the_same_key_waits(federation, nodes, caplog):
    caplog.set_level(logging.INFO)
    nodes.enrol(federation, "twin")
    nodes.start(federation, "twin", lambda request: b"elder")
    nodes.await_online(federation, "twin")
    stop = threading.Event()
    link = Link(federation.address, nodes.ca_pem, nodes.keys["twin"])
    younger = threading.Thread(target=serve, args=(link, lambda request: b"younger", stop))
    younger.start()
    assert federation.exchange({"twin": b"who"}, deadline_s=20)["twin"].reply == b"elder"
    eventually(lambda: "earlier connection" in caplog.text)
    time.sleep(0.5)
    stop.set()
    younger.join()
    waiting = [line for line in caplog.messages if "earlier connection" in line]
    assert len(waiting) == 1


@pytest.mark.slow
def test_nodes_wait_for_the_coordinator_and_find_it_again(link_settings, nodes, caplog):
    caplog.set_level(logging.INFO)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = replace(link_settings, port=probe.getsockname()[1])
    with Federation(settings) as federation:
        nodes.enrol(federation, "faithful")
    nodes.start(federation, "faithful", lambda request: request)
    eventually(lambda: "cannot be reached" in caplog.text)
    time.sleep(0.5)
    for attempt in (b"1", b"2"):
        with Federation(settings) as federation:
            assert federation.exchange({"faithful": attempt}, deadline_s=20)["faithful"].reply == attempt
    own = [record.message for record in caplog.records if record.name == "client.daemon.polling"]
    assert sum("cannot be reached" in message for message in own) <= 3
    assert sum("connected to" in message for message in own) == 2
