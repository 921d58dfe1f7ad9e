"""The delivery server: TLS 1.3, one port, health, an orderly end."""

import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.server import DeliveryServer
from coordinator.home.pki import PkiPaths
from coordinator.store.store import Store
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.coordinator.delivery.calls import TARGET, VECTORS, get, refused
from transfer.errors import ConfigError, UnavailableError


def test_an_oversize_request_is_refused(prompts) -> None:
    status, text, _ = refused(lambda: get(prompts, "x" * 65_536))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "vs. 65536" in text
    status, text, _ = refused(lambda: get(prompts, "x" * 65_000))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert len(text) == 1000


def test_health_is_served_and_ends_before_the_server_does(delivery, channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "promptferry.v1.PromptService", "promptferry.v1.EnrolmentService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    stopping = threading.Thread(target=delivery.server.stop, args=(1.0,))
    stopping.start()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    stopping.join(10)
    assert not stopping.is_alive()


def test_stopping_lets_running_downloads_end(delivery, proxies, tmp_path: Path) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    content = b"weights!" * 2**18
    (directory / "model.safetensors").write_bytes(content)
    delivery.add_proxy("tiny", directory)
    request = service_pb2.DownloadRequest(name="proxies/tiny", path="model.safetensors")
    calls = [proxies.DownloadProxyFile(request, timeout=30) for _ in range(4)]
    firsts = [next(call).chunk for call in calls]

    stopping = threading.Thread(target=delivery.server.stop, args=(20.0,))
    stopping.start()
    for call, first in zip(calls, firsts, strict=True):
        assert first + b"".join(response.chunk for response in call) == content
    stopping.join(10)
    assert not stopping.is_alive()


def test_nothing_else_is_served(channel: grpc.Channel) -> None:
    for method in ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/promptferry.v1.X/Y"):
        assert refused(lambda name=method: channel.unary_unary(name)(b"", timeout=20))[0] is (
            grpc.StatusCode.UNIMPLEMENTED
        )


def test_plain_text_is_refused(delivery) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    with grpc.insecure_channel(delivery.address) as channel:
        stub = service_pb2_grpc.PromptServiceStub(channel)
        assert refused(lambda: get(stub, "prompts/sst2/versions/1"))[0] is grpc.StatusCode.UNAVAILABLE


def handshake(port: int, version: ssl.TLSVersion) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as secured:
        return secured.version()


def test_tls_1_3_is_spoken_and_1_2_is_not(delivery) -> None:
    assert handshake(delivery.port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(delivery.port, ssl.TLSVersion.TLSv1_2)


def test_a_taken_port_is_one_line_that_names_the_setting(
    delivery, pki_paths: PkiPaths, tmp_path: Path
) -> None:
    def start(host: str, port: int) -> str:
        enrolment = Enrolment(delivery.store, lambda _key, _name: 1, "fleet:1")
        with pytest.raises(UnavailableError) as caught:
            DeliveryServer(delivery.store, host, port, pki_paths, enrolment, tmp_path).start()
        return str(caught.value)

    taken = start("127.0.0.1", delivery.port)
    assert taken == (
        f"cannot listen on 127.0.0.1:{delivery.port}: Address already in use; change [delivery] host or port"
    )
    assert "no such host" in start("nowhere.invalid", 0)
    assert "Cannot assign requested address" in start("192.0.2.1", 0)


def test_a_missing_certificate_is_told_before_listening(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    enrolment = Enrolment(store, lambda _key, _name: 1, "fleet:1")
    server = DeliveryServer(store, "127.0.0.1", 0, PkiPaths.under(tmp_path / "absent"), enrolment, tmp_path)
    with pytest.raises(ConfigError, match=r"server\.key: cannot read the key"):
        server.start()
    server.stop(0)
    store.close()


@pytest.mark.slow
def test_a_process_that_imports_the_coordinator_first_speaks_tls_1_3_only(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from coordinator.home import pki\n"
        "from coordinator.delivery.enrolment import Enrolment\n"
        "from coordinator.delivery.server import DeliveryServer\n"
        "from coordinator.store.store import Store\n"
        "directory = pathlib.Path(sys.argv[1])\n"
        "paths = pki.PkiPaths.under(directory)\n"
        "pki.create(paths)\n"
        "store = Store.open(f'sqlite:///{directory}/store.db')\n"
        "server = DeliveryServer(store, '127.0.0.1', 0, paths, Enrolment(store, lambda k, n: 1, 'x:1'), directory)\n"
        "print(server.start(), flush=True)\n"
        "sys.stdin.read()\n"
        "server.stop(0)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert handshake(port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises((ssl.SSLError, OSError)):
            handshake(port, ssl.TLSVersion.TLSv1_2)
        process.communicate("", timeout=30)
    assert process.returncode == 0
