"""Calls end: whoever asks nothing, or takes nothing, holds up nobody."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.server import DeliveryServer
from coordinator.delivery.service import Limits
from coordinator.home.pki import PkiPaths
from coordinator.network.admission import AdmissionLimits
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.benchmarks import strangers
from tests.coordinator.delivery.calls import TARGET, VECTORS, get, received, refused
from transfer.protocol.signing import sign


def test_a_call_without_deadline_ends_at_the_cap(delivery, pki_paths: PkiPaths, tmp_path: Path) -> None:
    release = threading.Event()

    class Slow(Enrolment):
        def enrol(self, *_: object) -> None:
            release.wait(10)

    slow = Slow(delivery.store, lambda _key, _name: 1, "fleet:1")
    server = DeliveryServer(delivery.store, "127.0.0.1", 0, pki_paths, slow, tmp_path, Limits(unary_s=0.2))
    credentials = grpc.ssl_channel_credentials(pki_paths.ca.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.start()}", credentials) as channel:
        stub = service_pb2_grpc.EnrolmentServiceStub(channel)
        started = time.monotonic()
        told = refused(lambda: stub.EnrolClient(service_pb2.EnrolClientRequest()))
    release.set()
    server.stop(0)

    assert told == (grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than 0.2 s", "deadline")
    assert time.monotonic() - started < 5


def test_the_cap_is_thirty_seconds_unless_told_otherwise() -> None:
    assert Limits().unary_s == 30


def test_calls_whose_request_never_comes_hold_up_nobody(delivery, channel: grpc.Channel, prompts) -> None:
    never = threading.Event()

    def requests() -> Iterator[bytes]:
        never.wait(20)
        yield from ()

    call = channel.stream_unary("/promptferry.v1.PromptService/GetPromptVersion")
    waiting = [call.future(requests()) for _ in range(60)]
    delivery.publish("sst2", TARGET, VECTORS)
    assert get(prompts, "prompts/sst2/versions/latest").name == "prompts/sst2/versions/1"
    assert not any(future.done() for future in waiting)
    never.set()
    for future in waiting:
        future.cancel()


@pytest.fixture
def narrow(delivery, pki_paths: PkiPaths, tmp_path: Path) -> Iterator[int]:
    """Port of a server that bears 20 calls and is impatient, with a prompt of a large and a small file."""
    files = {"large": bytes(strangers.LARGE), "small": b"small"}
    delivery.store.publish("big", lambda _version: (sign(b"{}", "x", Ed25519PrivateKey.generate()), files))
    enrolment = Enrolment(delivery.store, lambda _key, _name: 1, "fleet:1")
    limits, door = Limits(request_s=0.5), AdmissionLimits(calls=20, first_s=1.0)
    server = DeliveryServer(
        delivery.store, "127.0.0.1", 0, pki_paths, enrolment, tmp_path / "s", limits, door
    )
    yield server.start()
    server.stop(0)


@pytest.mark.parametrize("address", [strangers.STRANGER, "127.0.0.1"])
def test_unread_downloads_take_no_call_from_anybody_else(
    delivery, pki_paths: PkiPaths, narrow: int, address: str
) -> None:
    credentials = grpc.ssl_channel_credentials(pki_paths.ca.read_bytes())
    request = service_pb2.DownloadRequest(name="prompts/big/versions/1", path="small")
    with ExitStack() as stack:
        for connection in strangers.unread(narrow, address, 40, 5):
            stack.enter_context(connection)
        time.sleep(1.5)  # from then on they stand still
        for _ in range(10):
            channel = stack.enter_context(grpc.secure_channel(f"127.0.0.1:{narrow}", credentials))
            prompts = service_pb2_grpc.PromptServiceStub(channel)
            assert [part.chunk for part in prompts.DownloadPromptFile(request, timeout=20)] == [b"small"]


def test_a_call_whose_request_never_comes_ends(narrow: int) -> None:
    with strangers.secured(narrow, strangers.STRANGER) as connection:
        connection.settimeout(5)
        connection.sendall(strangers.greeting(65_535) + strangers.begun(1, strangers.GET))
        data = b""
        while b"no request came within 0.5 s" not in data:
            part = connection.recv(65_536)
            assert part, "the connection was closed first"
            data += part


@pytest.mark.parametrize("speaks_tls", [False, True])
def test_a_connection_that_never_asks_is_closed(narrow: int, speaks_tls: bool) -> None:
    plain = socket.create_connection(("127.0.0.1", narrow), 5)
    with strangers.secured(narrow, "127.0.0.1") if speaks_tls else plain as connection, plain:
        if speaks_tls:
            connection.sendall(strangers.greeting(65_535))
        connection.settimeout(5)
        started = time.monotonic()
        while connection.recv(65_536):
            assert time.monotonic() - started < 5


def test_who_hangs_up_or_is_hung_up_on_leaves_no_traceback(
    delivery, narrow: int, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    for connection in strangers.unread(narrow, strangers.STRANGER, 20, 5):
        time.sleep(0.2)
        connection.close()
    credentials = grpc.ssl_channel_credentials(delivery.paths.ca.read_bytes())
    with grpc.secure_channel(delivery.address, credentials) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        next(watch)
        delivery.server.stop(0.2)
    time.sleep(0.3)
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []
    assert "Traceback" not in capfd.readouterr().err


def test_a_reader_that_takes_nothing_is_hung_up_on_and_can_go_on_from_where_it_was(
    delivery, proxies, tmp_path: Path
) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"w" * 64 * 2**20)
    delivery.add_proxy("tiny", directory)

    call = proxies.DownloadProxyFile(
        service_pb2.DownloadRequest(name="proxies/tiny", path="model.safetensors")
    )
    next(call)
    time.sleep(2)
    assert refused(lambda: [None for _ in call])[0] is grpc.StatusCode.UNAVAILABLE
    rest = received(proxies.DownloadProxyFile, "proxies/tiny", "model.safetensors", 64 * 2**20 - 1)
    assert rest == [b"w"]
