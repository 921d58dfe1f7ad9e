"""promptferry.v1 as any gRPC client meets it: statuses, limits, TLS, health."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from coordinator import paging
from coordinator.door import DoorLimits
from coordinator.enrolment import Enrolment
from coordinator.pki import PkiPaths
from coordinator.server import DeliveryServer
from coordinator.service import Limits
from coordinator.shelf import Shelf
from coordinator.status import ANSWERS
from coordinator.store import Store
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.benchmarks import strangers
from transfer import names
from transfer.errors import ConfigError, PromptferryError, UnavailableError, UsageError
from transfer.files import FileRef
from transfer.model_ref import ModelRef
from transfer.signing import sign

TARGET = ModelRef("target", "a" * 64)
VECTORS = torch.ones(2, 4)


@pytest.fixture
def channel(delivery) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(delivery.paths.ca.read_bytes())
    with grpc.secure_channel(delivery.address, credentials) as channel:
        yield channel


@pytest.fixture
def prompts(channel: grpc.Channel) -> service_pb2_grpc.PromptServiceStub:
    return service_pb2_grpc.PromptServiceStub(channel)


@pytest.fixture
def proxies(channel: grpc.Channel) -> service_pb2_grpc.ProxyServiceStub:
    return service_pb2_grpc.ProxyServiceStub(channel)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str | None]:
    """Status, text and symbol of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata() or ()).get(names.ERROR_KEY)


def get(prompts: service_pb2_grpc.PromptServiceStub, name: str) -> service_pb2.PromptVersion:
    return prompts.GetPromptVersion(service_pb2.GetPromptVersionRequest(name=name), timeout=20)


def received(
    stub: Callable[..., Iterator[service_pb2.DownloadResponse]], name: str, path: str, offset: int = 0
):
    request = service_pb2.DownloadRequest(name=name, path=path, offset=offset)
    return [response.chunk for response in stub(request, timeout=20)]


def test_every_error_class_has_a_status() -> None:
    def tree(kind: type[PromptferryError]) -> set[type[PromptferryError]]:
        return {kind}.union(*(tree(child) for child in kind.__subclasses__()))

    assert {kind for kind in tree(PromptferryError) if kind.__module__ == "transfer.errors"} == set(ANSWERS)


def test_a_version_and_the_latest_are_given_with_files_and_statement(delivery, prompts) -> None:
    versions = [delivery.publish("sst2", TARGET, VECTORS * n) for n in (1, 2)]

    first, latest = get(prompts, "prompts/sst2/versions/1"), get(prompts, "prompts/sst2/versions/latest")
    assert (first.name, latest.name) == ("prompts/sst2/versions/1", "prompts/sst2/versions/2")
    assert first.statement.payload == versions[0].statement.payload
    assert {file.path: file.digest for file in latest.files} == {
        file.path: file.digest for file in versions[1].files
    }


def test_a_revoked_version_reads_like_one_that_never_was(delivery, prompts) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    delivery.publish("sst2", TARGET, VECTORS)
    absent = refused(lambda: get(prompts, "prompts/sst2/versions/3"))
    delivery.store.set_prompt_state("sst2", 2, "revoked")
    revoked = refused(lambda: get(prompts, "prompts/sst2/versions/2"))

    assert absent[0] is grpc.StatusCode.NOT_FOUND
    assert revoked == (absent[0], absent[1].replace("3", "2"), "not_found")
    assert get(prompts, "prompts/sst2/versions/latest").name == "prompts/sst2/versions/1"
    download = refused(
        lambda: received(prompts.DownloadPromptFile, "prompts/sst2/versions/2", "adapter_config.json")
    )
    assert download == revoked


@pytest.mark.parametrize(
    "name",
    ["", "sst2", "prompts/sst2", "prompts/A/versions/1", "prompts/x/versions/0", "prompts/x/versions/1/y"],
)
def test_a_malformed_name_is_an_invalid_argument(prompts, name: str) -> None:
    status, text, symbol = refused(lambda: get(prompts, name))
    assert (status, symbol) == (grpc.StatusCode.INVALID_ARGUMENT, "usage")
    assert "\n" not in text


def test_a_listing_is_newest_first_and_pages_do_not_shift(delivery, prompts) -> None:
    for index in range(5):
        delivery.publish(f"p{index % 2}", TARGET, VECTORS)
    delivery.store.set_prompt_state("p0", 2, "revoked")

    seen, token = [], ""
    while True:
        request = service_pb2.ListPromptVersionsRequest(parent="prompts/-", page_size=2, page_token=token)
        page = prompts.ListPromptVersions(request, timeout=20)
        assert len(page.prompt_versions) <= 2
        seen += [version.name for version in page.prompt_versions]
        delivery.publish("later", TARGET, VECTORS)
        if not (token := page.next_page_token):
            break
    assert seen == [
        f"prompts/{name}" for name in ("p0/versions/3", "p1/versions/2", "p1/versions/1", "p0/versions/1")
    ]
    one = service_pb2.ListPromptVersionsRequest(parent="prompts/p1")
    assert len(prompts.ListPromptVersions(one, timeout=20).prompt_versions) == 2


def test_proxies_are_listed_in_pages(delivery, proxies, tiny_causal: Path) -> None:
    for index in range(3):
        delivery.add_proxy(f"p{index}", tiny_causal)
    first = proxies.ListProxies(service_pb2.ListProxiesRequest(page_size=2), timeout=20)
    delivery.add_proxy("later", tiny_causal)
    rest = proxies.ListProxies(service_pb2.ListProxiesRequest(page_token=first.next_page_token), timeout=20)

    assert [proxy.name for proxy in first.proxies] == ["proxies/p2", "proxies/p1"]
    assert [proxy.name for proxy in rest.proxies] == ["proxies/p0"]
    assert rest.next_page_token == ""


@given(st.integers(0, 10**18 - 1), st.sampled_from(["proxies", "prompts/-", "prompts/a"]))
def test_a_page_token_leads_back_to_its_position(position: int, listing: str) -> None:
    assert paging.cursor(paging.token(position, listing), listing) == position


@given(st.text() | st.builds(paging.token, st.integers(0, 9), st.just("prompts/other")))
def test_a_foreign_page_token_is_refused(token: str) -> None:
    if not token:
        return
    with pytest.raises(UsageError, match="page_token is not one that this listing gave out"):
        paging.cursor(token, "prompts/-")


def test_impossible_pages_are_refused(delivery, prompts, proxies) -> None:
    negative = service_pb2.ListProxiesRequest(page_size=-1)
    assert refused(lambda: proxies.ListProxies(negative))[0] is grpc.StatusCode.INVALID_ARGUMENT
    foreign = service_pb2.ListPromptVersionsRequest(parent="prompts/-", page_token="x")
    assert refused(lambda: prompts.ListPromptVersions(foreign))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_download_goes_on_from_its_offset_in_small_chunks(delivery, proxies, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "model.safetensors").write_bytes(content)
    delivery.add_proxy("tiny", tmp_path / "proxy")

    for offset in (0, 1, 65_536, len(content) - 1, len(content)):
        chunks = received(proxies.DownloadProxyFile, "proxies/tiny", "model.safetensors", offset)
        assert b"".join(chunks) == content[offset:]
        assert all(0 < len(chunk) <= 32_768 for chunk in chunks)
    for offset in (-1, len(content) + 1):
        status, text, _ = refused(
            lambda at=offset: received(proxies.DownloadProxyFile, "proxies/tiny", "model.safetensors", at)
        )
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert f"offset {offset} is outside" in text


@pytest.mark.parametrize(
    "path", ["secret", "../publisher.key", "/etc/passwd", "", ".", "sub/file", "config.json\0"]
)
def test_a_file_that_is_not_listed_is_not_there(delivery, proxies, tmp_path: Path, path: str) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    delivery.add_proxy("tiny", directory)
    (directory / "secret").write_text("private")
    (tmp_path / "publisher.key").write_text("private")

    status, _, symbol = refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", path))
    assert (status, symbol) == (grpc.StatusCode.NOT_FOUND, "not_found")


def test_a_damaged_proxy_is_unavailable_and_names_no_path(delivery, proxies, tmp_path: Path) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    (directory / "config.json").write_text("{}" * 1000)
    delivery.add_proxy("tiny", directory)

    (directory / "config.json").write_text("{}")
    assert refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", "config.json"))[0] is (
        grpc.StatusCode.UNAVAILABLE
    )
    (directory / "config.json").unlink()
    status, text, _ = refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", "config.json"))
    assert status is grpc.StatusCode.UNAVAILABLE
    assert str(tmp_path) not in text


def test_a_download_of_the_latest_is_refused(delivery, prompts) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    status, text, _ = refused(
        lambda: received(prompts.DownloadPromptFile, "prompts/sst2/versions/latest", "adapter_config.json")
    )
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "a download names its version" in text


def test_an_oversize_request_is_refused(prompts) -> None:
    status, text, _ = refused(lambda: get(prompts, "x" * 65_536))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "vs. 65536" in text
    status, text, _ = refused(lambda: get(prompts, "x" * 65_000))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert len(text) == 1000


@pytest.mark.parametrize(
    "error", [RuntimeError("/srv/secret is broken"), ConfigError("/srv/secret is broken")]
)
def test_a_failure_inside_says_only_that(
    delivery, pki_paths: PkiPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    class Broken(Enrolment):
        def enrol(self, *_: object) -> None:
            raise error

    broken = Broken(delivery.store, lambda _key, _name: 1, "fleet:1")
    server = DeliveryServer(delivery.store, "127.0.0.1", 0, pki_paths, broken, tmp_path)
    credentials = grpc.ssl_channel_credentials(pki_paths.ca.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.start()}", credentials) as channel:
        stub = service_pb2_grpc.EnrolmentServiceStub(channel)
        told = refused(lambda: stub.EnrolClient(service_pb2.EnrolClientRequest(), timeout=20))
    server.stop(0)

    assert told == (grpc.StatusCode.INTERNAL, "internal error", None)
    assert "/srv/secret is broken" in caplog.text


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
    limits, door = Limits(request_s=0.5), DoorLimits(calls=20, first_s=1.0)
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


def test_a_file_is_read_from_the_store_once_and_a_damaged_copy_is_mended(
    delivery, prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, inner = [], delivery.store.prompt_file
    monkeypatch.setattr(delivery.store, "prompt_file", lambda *given: read.append(given) or inner(*given))
    version = delivery.publish("sst2", TARGET, VECTORS)
    file = next(file for file in version.files if file.path == "adapter_config.json")
    for _ in range(3):
        content = b"".join(received(prompts.DownloadPromptFile, version.name, file.path))
        assert FileRef.of_bytes(file.path, content) == file
    assert len(read) == 1
    copy = delivery.directory / "served" / file.digest
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.write_bytes(b"{}")
    shelf = Shelf(copy.parent)  # as a process that starts anew
    assert shelf.path(file, lambda: content).read_bytes() == content
    copy.unlink()
    assert b"".join(received(prompts.DownloadPromptFile, version.name, file.path)) == content


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
        f"cannot listen on 127.0.0.1:{delivery.port}: Address already in use; set [delivery] host and port"
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
        "from coordinator import pki\n"
        "from coordinator.enrolment import Enrolment\n"
        "from coordinator.server import DeliveryServer\n"
        "from coordinator.store import Store\n"
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
