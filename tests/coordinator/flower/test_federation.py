"""Exchanges between the two adapters: real TLS, real threads."""

import logging
import os
import threading
import time

import pytest
from flwr.proto.control_pb2 import StopRunRequest
from flwr.proto.fleet_pb2 import PullMessagesRequest

from client.daemon import node as own_node
from client.daemon.link import Link
from coordinator.flower.federation import Federation
from coordinator.flower.run import Run
from coordinator.rounds.fleet import Outcome
from transfer.errors import (
    UnavailableError,
)

THREE = ("one", "two", "three")


def test_three_nodes_answer_within_three_seconds(federation, nodes):
    nodes.enrol(federation, *THREE)
    for name in THREE:
        nodes.start(federation, name, lambda request, name=name: request + b" from " + name.encode())
    nodes.await_online(federation, *THREE)
    told: dict[str, Outcome] = {}
    took = []
    for attempt in range(2):
        started = time.monotonic()
        requests = {name: b"%d" % attempt + name.encode() for name in THREE}
        outcomes = federation.exchange(requests, deadline_s=20, on_outcome=told.__setitem__)
        took.append(time.monotonic() - started)
        assert told == outcomes
        for name in THREE:
            assert outcomes[name] == Outcome(reply=requests[name] + b" from " + name.encode())
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others may share the cores
    assert min(took) < 3 * busy, "under a second on a quiet machine"


def test_megabytes_go_through_unchanged(federation, nodes):
    nodes.enrol(federation, "large")
    nodes.start(federation, "large", lambda request: request[::-1])
    request = bytes(range(256)) * 2**13
    assert federation.exchange({"large": request}, deadline_s=30)["large"].reply == request[::-1]


def test_a_node_that_comes_online_late_is_asked_and_one_that_never_comes_is_offline(federation, nodes):
    nodes.enrol(federation, "late", "never")
    timer = threading.Timer(0.5, nodes.start, (federation, "late", lambda request: request))
    timer.start()
    started = time.monotonic()
    outcomes = federation.exchange({"late": b"x", "never": b"y", "unknown": b"z"}, deadline_s=4)
    timer.join()
    assert 3.9 < time.monotonic() - started < 7
    offline = Outcome(error="offline")
    assert outcomes == {"late": Outcome(reply=b"x"), "never": offline, "unknown": offline}


class Slow:
    """A node that begins at once and answers when it is let."""

    def __init__(self) -> None:
        self.let, self.entered = threading.Event(), threading.Event()

    def answer(self, request: bytes) -> bytes:
        if request == b"first":
            self.entered.set()
            self.let.wait(20)
        return b"re: " + request


def ask_too_short(federation, nodes, slow, told):
    """An exchange whose deadline passes while its node is at work."""
    nodes.enrol(federation, "slow")
    nodes.start(federation, "slow", slow.answer)
    nodes.await_online(federation, "slow")
    outcomes = federation.exchange({"slow": b"first"}, deadline_s=3, on_late=told.__setitem__)
    assert outcomes["slow"] == Outcome(error="timeout")
    assert slow.entered.is_set()


@pytest.mark.slow
def test_a_late_reply_is_told_as_late_and_never_taken_for_the_next_exchange(link_settings, nodes):
    slow, late = Slow(), {}
    with Federation(link_settings) as federation:
        ask_too_short(federation, nodes, slow, late)
        threading.Timer(0.5, slow.let.set).start()
        assert federation.exchange({"slow": b"second"}, deadline_s=20)["slow"].reply == b"re: second"
        assert late == {"slow": Outcome(reply=b"re: first")}
        nodes.stop()


def test_a_late_reply_is_heard_between_exchanges(link_settings, nodes):
    slow, late = Slow(), {}
    with Federation(link_settings) as federation:
        ask_too_short(federation, nodes, slow, late)
        federation.listen()
        assert late == {}
        slow.let.set()
        deadline = time.monotonic() + 20
        while not late:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            federation.listen()
        assert late == {"slow": Outcome(reply=b"re: first")}
        assert not any(item.is_alive for item in federation._awaited)
        nodes.stop()


def test_a_reply_that_comes_between_the_last_look_and_the_deadline_is_in_time(federation, nodes):
    nodes.enrol(federation, "punctual")
    nodes.start(federation, "punctual", lambda request: request)
    nodes.await_online(federation, "punctual")
    outcomes = federation.exchange({"punctual": b"x"}, deadline_s=3, poll_s=60)
    assert outcomes["punctual"] == Outcome(reply=b"x")


def test_an_exchange_that_is_over_early_withdraws_what_was_not_pulled(federation, nodes):
    nodes.enrol(federation, "quick", "idle")
    nodes.start(federation, "quick", lambda request: request)
    started = time.monotonic()
    link = Link(federation.address, nodes.ca_pem, nodes.keys["idle"])
    with own_node.Fleet(link) as fleet, own_node.signed_on(fleet, []) as idle:
        outcomes = federation.exchange(
            {"quick": b"q", "idle": b"i"}, deadline_s=30, is_over=lambda so_far: len(so_far) == 1
        )
        assert time.monotonic() - started < 10
        assert outcomes == {"quick": Outcome(reply=b"q"), "idle": Outcome(error="not_awaited")}
        assert not fleet.PullMessages(PullMessagesRequest(node=idle)).messages_list


def test_a_node_that_lost_its_request_in_a_restart_is_asked_again(federation, nodes):
    asked: list[str] = []

    def dies(request: bytes) -> bytes:
        asked.append("before")
        raise SystemExit

    nodes.enrol(federation, "restarted")
    first = nodes.start(federation, "restarted", dies)

    def come_back() -> None:
        first.join()
        nodes.start(federation, "restarted", lambda request: asked.append("after") or request)

    threading.Thread(target=come_back).start()
    assert federation.exchange({"restarted": b"once"}, deadline_s=20)["restarted"].reply == b"once"
    assert asked == ["before", "after"]


def test_a_node_that_is_stopped_while_it_answers_is_asked_again(federation, nodes):
    def answer(request: bytes) -> bytes:
        stop, thread = nodes.running["stopped"]
        stop.set()
        threading.Thread(target=come_back, args=(thread,)).start()
        raise InterruptedError

    def come_back(first: threading.Thread) -> None:
        first.join()
        nodes.start(federation, "stopped", lambda request: request)

    nodes.enrol(federation, "stopped")
    nodes.start(federation, "stopped", answer)
    assert federation.exchange({"stopped": b"again"}, deadline_s=20)["stopped"].reply == b"again"


def test_a_run_that_breaks_off_is_replaced_within_the_exchange(federation, nodes):
    nodes.enrol(federation, "patient", "first")
    nodes.start(federation, "first", lambda request: request)

    def break_off(name: str, outcome: Outcome) -> None:
        if name == "first":
            federation._control.StopRun(StopRunRequest(run_id=federation._run._run_id))
            nodes.start(federation, "patient", lambda request: request)

    outcomes = federation.exchange({"first": b"1", "patient": b"2"}, deadline_s=20, on_outcome=break_off)
    assert outcomes == {"first": Outcome(reply=b"1"), "patient": Outcome(reply=b"2")}


def test_what_a_killed_coordinator_left_behind_reaches_no_node(link_settings, nodes):
    seen: list[bytes] = []
    with Federation(link_settings) as federation:
        nodes.enrol(federation, "returning")
        nodes.start(federation, "returning", lambda request: request)
        nodes.await_online(federation, "returning")
        nodes.stop()
        run = Run(federation._superlink, federation._control, federation._bundle)
        node_id = federation._nodes()[0].node_id
        assert run.push(node_id, b"before the crash", 600) is not None
        run._heart.stop()
        run._client.close()
    with Federation(link_settings) as federation:
        nodes.start(federation, "returning", lambda request: seen.append(request) or request)
        federation.exchange({"returning": b"after"}, deadline_s=20)
    assert seen == [b"after"]


def test_closing_the_federation_ends_an_exchange(link_settings, nodes):
    with Federation(link_settings) as federation:
        nodes.enrol(federation, "absent")
        closer = threading.Timer(0.5, federation.__exit__)
        closer.start()
        with pytest.raises(UnavailableError, match="closed during an exchange"):
            federation.exchange({"absent": b"x"}, deadline_s=30)
        closer.join()


def test_of_an_exception_only_the_class_leaves_the_node(federation, nodes, caplog):
    secret = "Mrs. Dalloway, born 1923"

    def answer(request: bytes) -> bytes:
        raise ZeroDivisionError(secret)

    caplog.set_level(logging.DEBUG)
    nodes.enrol(federation, "failing")
    nodes.start(federation, "failing", answer)
    outcome = federation.exchange({"failing": b"x"}, deadline_s=20)["failing"]
    assert outcome == Outcome(error="client_error:ZeroDivisionError")
    assert secret not in caplog.text
    for path in federation._settings.database.parent.iterdir():
        assert secret.encode() not in path.read_bytes()
