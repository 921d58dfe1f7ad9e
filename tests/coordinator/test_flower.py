"""The two Flower adapters against each other: real TLS, real threads, real processes."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import client.flower
import coordinator.flower
import httpx
import pytest
from client.flower import Link, serve
from coordinator.exchange import Outcome
from coordinator.flower import Federation, LinkSettings
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ConfigError,
    NotFoundError,
    UnavailableError,
    UsageError,
)

THREE = ("one", "two", "three")


def public(key: ec.EllipticCurvePrivateKey, encoding: str = "PEM", form: str = "SubjectPublicKeyInfo") -> bytes:
    return key.public_key().public_bytes(
        getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form)
    )


def eventually(true: Callable[[], object], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_three_nodes_answer_within_three_seconds(federation, nodes):
    nodes.enrol(federation, *THREE)
    for name in THREE:
        nodes.start(federation, name, lambda request, name=name: request + b" from " + name.encode())
    eventually(lambda: federation.online().keys() >= set(THREE))
    told: dict[str, Outcome] = {}
    for attempt in range(2):
        started = time.monotonic()
        requests = {name: b"%d" % attempt + name.encode() for name in THREE}
        outcomes = federation.exchange(requests, deadline_s=20, on_outcome=told.__setitem__)
        assert time.monotonic() - started < 3
        assert told == outcomes
        for name in THREE:
            assert outcomes[name] == Outcome(reply=requests[name] + b" from " + name.encode())


def test_megabytes_go_through_unchanged(federation, nodes):
    nodes.enrol(federation, "large")
    nodes.start(federation, "large", lambda request: request[::-1])
    request = bytes(range(256)) * 4 * 2**12
    assert federation.exchange({"large": request}, deadline_s=30)["large"].reply == request[::-1]


def test_a_node_that_comes_online_late_is_asked_and_one_that_never_comes_is_offline(federation, nodes):
    nodes.enrol(federation, "late", "never")
    timer = threading.Timer(1.0, nodes.start, (federation, "late", lambda request: request))
    timer.start()
    started = time.monotonic()
    outcomes = federation.exchange({"late": b"x", "never": b"y", "unknown": b"z"}, deadline_s=6)
    timer.join()
    assert 5.9 < time.monotonic() - started < 9
    offline = Outcome(error="offline")
    assert outcomes == {"late": Outcome(reply=b"x"), "never": offline, "unknown": offline}


def test_a_late_reply_is_never_taken_for_the_next_exchange(federation, nodes):
    release, entered = threading.Event(), threading.Event()

    def answer(request: bytes) -> bytes:
        if request == b"first":
            entered.set()
            release.wait(20)
        return b"re: " + request

    nodes.enrol(federation, "slow")
    nodes.start(federation, "slow", answer)
    eventually(lambda: "slow" in federation.online())
    assert federation.exchange({"slow": b"first"}, deadline_s=2)["slow"] == Outcome(error="timeout")
    assert entered.is_set()
    threading.Timer(0.5, release.set).start()
    assert federation.exchange({"slow": b"second"}, deadline_s=20)["slow"].reply == b"re: second"


def test_the_quorum_ends_the_exchange_and_withdraws_what_was_not_pulled(federation, nodes):
    seen: list[bytes] = []
    nodes.enrol(federation, "quick", "absent")
    nodes.start(federation, "quick", lambda request: request)
    started = time.monotonic()
    outcomes = federation.exchange(
        {"quick": b"q", "absent": b"a"}, deadline_s=30, quorum=lambda so_far: len(so_far) == 1
    )
    assert time.monotonic() - started < 10
    assert outcomes == {"quick": Outcome(reply=b"q"), "absent": Outcome(error="not_awaited")}
    nodes.start(federation, "absent", lambda request: seen.append(request) or b"")
    eventually(lambda: "absent" in federation.online())
    time.sleep(0.5)
    assert seen == []


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


def test_a_message_that_is_not_ours_is_refused_and_runs_nothing(federation, nodes):
    calls: list[bytes] = []
    nodes.enrol(federation, "strict")
    nodes.start(federation, "strict", lambda request: calls.append(request) or b"")
    federation.exchange({"strict": b"ours"}, deadline_s=20)
    run, node_id = federation._run, federation.online()["strict"]
    ours = ConfigRecord({"request": b"x"})
    foreign = {
        "another type": (RecordDict({"promptferry": ours}), "evaluate"),
        "an action": (RecordDict({"promptferry": ours}), "train.fit"),
        "no record": (RecordDict({}), "train"),
        "another record": (RecordDict({"other": ours}), "train"),
        "a second record": (RecordDict({"promptferry": ours, "other": ours}), "train"),
        "no field": (RecordDict({"promptferry": ConfigRecord({})}), "train"),
        "text": (RecordDict({"promptferry": ConfigRecord({"request": "x"})}), "train"),
        "a second field": (RecordDict({"promptferry": ConfigRecord({"request": b"x", "code": b"y"})}), "train"),
    }
    ids = {}
    for what, (content, message_type) in foreign.items():
        (ids[what],) = run._grid.push_messages([Message(content, node_id, message_type, ttl=60)])
    refused = {}
    eventually(
        lambda: refused.update({a.message_id: a.outcome for a in run.pull(set(ids.values()), 5)})
        or len(refused) == len(ids)
    )
    assert {what: refused[ids[what]] for what in foreign} == dict.fromkeys(
        foreign, Outcome(error="malformed_request")
    )
    assert calls == [b"ours"]


def test_a_reply_counts_for_its_sender_whatever_its_inside_claims(federation, nodes, monkeypatch):
    """Flower checks the envelope; a node writes what is inside it as it likes."""
    victim_message: list[str] = []

    class Forger(client.flower._Worker):
        def _push(self, reply: Message, took_s: float) -> None:
            if threading.current_thread().name == "forger":
                eventually(lambda: victim_message)
                envelope = reply.metadata.reply_to_message_id
                reply.metadata._reply_to_message_id = victim_message[0]
                reply.metadata.__dict__["_message_id"] = reply.object_id
                real = client.flower.remove_content_from_message

                def honest_envelope(message: Message) -> Message:
                    header = real(message)
                    header.metadata._reply_to_message_id = envelope
                    return header

                monkeypatch.setattr(client.flower, "remove_content_from_message", honest_envelope)
            super()._push(reply, took_s)

    monkeypatch.setattr(client.flower, "_Worker", Forger)
    done = threading.Event()
    nodes.enrol(federation, "forger", "victim")
    nodes.start(federation, "forger", lambda request: b"forged")
    nodes.start(federation, "victim", lambda request: done.wait(20) and b"true")

    def note(name: str, outcome: Outcome) -> None:
        done.set()

    original = federation._run.push if federation._run else None
    assert original is None or True
    sent = coordinator.flower.Exchange.sent

    def spy(self, message_id, name, presence):
        if name == "victim":
            victim_message.append(message_id)
        sent(self, message_id, name, presence)

    monkeypatch.setattr(coordinator.flower.Exchange, "sent", spy)
    outcomes = federation.exchange({"forger": b"f", "victim": b"v"}, deadline_s=20, on_outcome=note)
    assert outcomes == {"forger": Outcome(reply=b"forged"), "victim": Outcome(reply=b"true")}


def test_an_unregistered_key_is_told_at_once(federation, nodes):
    nodes.keys["stranger"] = ec.generate_private_key(ec.SECP384R1())
    nodes.start(federation, "stranger", bytes).join(10)
    assert isinstance(nodes.raised["stranger"], AuthenticationError)
    assert "enrol" in str(nodes.raised["stranger"])
    assert federation.address in str(nodes.raised["stranger"])


def test_a_node_that_is_unregistered_while_connected_ends_with_an_authentication_error(federation, nodes):
    nodes.enrol(federation, "revoked")
    thread = nodes.start(federation, "revoked", bytes)
    eventually(lambda: "revoked" in federation.online())
    federation.unregister("revoked")
    thread.join(10)
    assert isinstance(nodes.raised["revoked"], AuthenticationError)
    assert "revoked" not in federation.online()


def test_a_server_with_another_ca_is_not_retried(federation, pki):
    link = Link(federation.address, (pki / "stranger.pem").read_bytes(), ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(UnavailableError, match=f"{federation.address}.*not signed by the pinned CA"):
        serve(link, bytes, threading.Event())


def test_a_second_daemon_with_the_same_key_waits(federation, nodes, caplog):
    caplog.set_level(logging.INFO)
    nodes.enrol(federation, "twin")
    nodes.start(federation, "twin", lambda request: b"elder")
    eventually(lambda: "twin" in federation.online())
    stop = threading.Event()
    link = Link(federation.address, nodes.ca_pem, nodes.keys["twin"])
    younger = threading.Thread(target=serve, args=(link, lambda request: b"younger", stop))
    younger.start()
    assert federation.exchange({"twin": b"who"}, deadline_s=20)["twin"].reply == b"elder"
    time.sleep(1)
    stop.set()
    younger.join()
    waiting = [line for line in caplog.messages if "earlier connection" in line]
    assert len(waiting) == 1


def test_nodes_wait_for_the_coordinator_and_find_it_again(link_settings, nodes, caplog):
    caplog.set_level(logging.INFO)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = replace(link_settings, port=probe.getsockname()[1])
    with Federation(settings) as federation:
        nodes.enrol(federation, "faithful")
    nodes.start(federation, "faithful", lambda request: request)
    eventually(lambda: "cannot be reached" in caplog.text)
    time.sleep(1)
    for attempt in (b"1", b"2"):
        with Federation(settings) as federation:
            assert federation.exchange({"faithful": attempt}, deadline_s=20)["faithful"].reply == attempt
    own = [record.message for record in caplog.records if record.name == "client.flower"]
    assert sum("cannot be reached" in message for message in own) <= 3
    assert sum("connected to" in message for message in own) == 2


def test_a_taken_port_is_named(federation, link_settings):
    port = int(federation.address.rpartition(":")[2])
    with (
        pytest.raises(UnavailableError, match=rf"another process listens on 127\.0\.0\.1:{port}; .*\[flower\] port"),
        Federation(replace(link_settings, port=port)),
    ):
        pass


def test_a_key_that_does_not_fit_the_certificate_is_named(link_settings, tmp_path):
    key = tmp_path / "other.key"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
    with (
        pytest.raises(ConfigError, match=r"other\.key cannot be used"),
        Federation(replace(link_settings, certificate_key=key)),
    ):
        pass


def test_a_file_that_is_no_database_is_named(link_settings):
    link_settings.database.write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match=r"flower\.db cannot be used"), Federation(link_settings):
        pass


def test_registering_is_idempotent_and_names_and_keys_belong_together(federation):
    key, other = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    node_id = federation.register(public(key), "clinic")
    assert federation.register(public(key, "OpenSSH", "OpenSSH"), "clinic") == node_id
    with pytest.raises(AlreadyExistsError, match="registered as 'clinic'"):
        federation.register(public(key), "hospital")
    with pytest.raises(AlreadyExistsError, match="another key"):
        federation.register(public(other), "clinic")
    federation.unregister(node_id)
    with pytest.raises(NotFoundError, match="clinic"):
        federation.unregister("clinic")
    with pytest.raises(AlreadyExistsError, match="revoked"):
        federation.register(public(key), "clinic")
    assert federation.register(public(other), "clinic") != node_id


@pytest.mark.parametrize("key", [b"", b"ecdsa-sha2-nistp384 AAAA", b"-----BEGIN PUBLIC KEY-----"])
def test_what_is_no_key_is_not_registered(federation, key):
    with pytest.raises(UsageError, match="neither PEM nor OpenSSH"):
        federation.register(key, "nobody")


def test_a_key_on_another_curve_is_not_registered(federation):
    with pytest.raises(UsageError, match="secp384r1"):
        federation.register(public(ec.generate_private_key(ec.SECP256R1())), "nobody")


CLOSED = (
    "/v1/control/start-run",
    "/v1/control/register-node",
    "/v1/control/list-nodes",
    "/v1/control/get-login-details",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-messages",
    "/docs",
    "/openapi.json",
    "/v1/responses",
    "/v1/fleet",
    "//v1/control/list-nodes",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/",
)


@pytest.mark.parametrize("path", CLOSED)
def test_a_stranger_finds_nothing_but_the_fleet_paths(federation, pki, path):
    url = httpx.URL(f"https://{federation.address}").copy_with(raw_path=path.encode())
    with httpx.Client(verify=str(pki / "ca.pem"), trust_env=False) as stranger:
        guess = {"x-promptferry-gate": "0" * 64, "authorization": "Bearer " + "0" * 64}
        for method in ("GET", "POST", "PUT", "OPTIONS"):
            assert stranger.request(method, url).status_code == 404
            assert stranger.request(method, url, headers=guess).status_code == 404


def test_a_stranger_meets_authentication_on_the_fleet_paths(federation, pki):
    with httpx.Client(base_url=f"https://{federation.address}", verify=str(pki / "ca.pem")) as stranger:
        assert stranger.get("/health").status_code == 200
        assert stranger.get("/v1/fleet/pull-messages").status_code == 404
        body = {"content-type": "application/x-protobuf"}
        assert stranger.post("/v1/fleet/pull-messages", headers=body).status_code == 401
        assert stranger.post("/v1/fleet/pull-messages", content=iter([b"x"])).status_code == 413
        assert stranger.post("/v1/fleet/push-object", headers={"content-length": str(2**40)}).status_code == 413


def test_flowers_own_clients_can_neither_start_a_run_nor_register_a_node(federation, pki):
    ca = (pki / "ca.pem").read_bytes()
    fab = fab_to_proto(Fab("0" * 64, coordinator.flower.manifest(), {}))
    key = public(ec.generate_private_key(ec.SECP384R1()))
    with ControlHttpClient.from_server_address(federation.address, False, ca, interceptors=[]) as stock:
        for call, request in (
            (stock.StartRun, StartRunRequest(fab=fab)),
            (stock.RegisterNode, RegisterNodeRequest(public_key=key, name="rogue")),
        ):
            with pytest.raises(httpx.HTTPStatusError, match="404"):
                call(request)


def test_the_gate_alone_does_not_open_the_control_interface(federation):
    """Two locks: whoever came to know the gate's secret still needs the token."""
    with federation._superlink.control() as ours:
        ours._interceptors = ours._interceptors[:1]
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            ours.RegisterNode(RegisterNodeRequest(public_key=b"", name="rogue"))
    with federation._superlink.runtime("guessed token") as ours:
        ours._interceptors = ours._interceptors[:1]
        from flwr.proto.runtime_pb2 import AcquireTaskRequest

        with pytest.raises(httpx.HTTPStatusError, match="401"):
            ours.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
