"""The client end of promptferry.v1 against a real server over TLS, sometimes through a cable that breaks."""

import random
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from client import keys
from client.proxy_fetch import fetch_proxy
from client.remote import Remote
from client.staging import PartialFile, staged
from coordinator import pki
from coordinator.enrolment import invite
from coordinator.pki import PkiPaths
from coordinator.records import ClientState
from promptferry.v1 import service_pb2, service_pb2_grpc
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
    DeadlineError,
    NotFoundError,
    PromptferryError,
    UnavailableError,
    UsageError,
    VerificationError,
)
from transfer.files import FileRef
from transfer.model_ref import ModelRef
from transfer.signing import PROXY_PREDICATE, STATEMENT_TYPE, Statement, sign, statement

TARGET = ModelRef("target", "a" * 64)
VECTORS = torch.ones(2, 4)
CONTENT = random.Random(0).randbytes(700_000)


@pytest.fixture
def remote(delivery) -> Iterator[Remote]:
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        yield remote


@pytest.fixture
def weights(delivery, tmp_path: Path) -> FileRef:
    """The one file of a proxy `tiny`."""
    directory = tmp_path / "offered"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(CONTENT)
    return delivery.add_proxy("tiny", directory).files[0]


class Cable:
    """A TCP relay to a port that cuts each connection after some bytes to the caller; None never does."""

    def __init__(self, port: int, cuts: list[int | None]) -> None:
        self._port, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would let a waiting accept finish
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            left = self._cuts.pop(0) if self._cuts else None
            far = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, left), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        try:
            while (left is None or left > 0) and (data := source.recv(4096)):
                sink.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_what_was_published_comes_as_values(delivery, remote: Remote) -> None:
    version = delivery.publish("sst2", TARGET, VECTORS)
    delivery.publish("agnews", TARGET, VECTORS)

    offer = remote.prompt_version("sst2")
    assert (offer.name, offer.files, offer.statement) == (version.name, version.files, version.statement)
    assert offer.create_time == version.create_time
    assert remote.prompt_version("sst2", 1) == offer
    assert [found.name for found in remote.prompt_versions()] == [
        "prompts/agnews/versions/1",
        "prompts/sst2/versions/1",
    ]
    assert list(remote.prompt_versions("sst2")) == [offer]


def test_a_long_listing_comes_whole_and_in_order(delivery, remote: Remote) -> None:
    for _ in range(105):
        delivery.publish("sst2", TARGET, VECTORS)
    assert [offer.version for offer in remote.prompt_versions("sst2")] == list(range(105, 0, -1))


def test_proxies_come_as_values(delivery, remote: Remote, tiny_causal: Path) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    offer = remote.proxy("tiny")
    assert (offer.name, offer.model, offer.parent) == (record.name, record.model, record.parent)
    assert (offer.layers, offer.files, offer.statement) == (record.layers, record.files, record.statement)
    assert list(remote.proxies()) == [offer]


def test_the_remote_raises_what_the_store_raises(delivery, remote: Remote) -> None:
    for far, near in [
        (lambda: remote.prompt_version("sst2"), lambda: delivery.store.prompt_version("sst2")),
        (lambda: remote.prompt_version("sst2", 3), lambda: delivery.store.prompt_version("sst2", 3)),
        (lambda: remote.proxy("tiny"), lambda: delivery.store.proxy("tiny")),
    ]:
        with pytest.raises(NotFoundError) as there:
            near()
        with pytest.raises(NotFoundError, match=f"^{re.escape(str(there.value))}$"):
            far()


@pytest.mark.parametrize("name", ["", "A", "a/b", "-", "latest/../x"])
def test_an_impossible_name_is_not_even_sent(remote: Remote, name: str) -> None:
    remote.close()
    with pytest.raises(UsageError, match="name"):
        remote.prompt_version(name)
    with pytest.raises(UsageError, match="name"):
        remote.proxy(name)


def test_keys_are_enrolled_once_and_the_fleet_address_comes_back(
    delivery, remote: Remote, tmp_path: Path
) -> None:
    token = invite(delivery.store, "clinic-a", datetime.now(UTC))
    own = keys.create(tmp_path / "keys")

    assert remote.enrol("clinic-a", token, own) == "127.0.0.1:9191"
    assert remote.enrol("clinic-a", token, own) == "127.0.0.1:9191"
    client = delivery.store.client("clinic-a")
    assert client.state is ClientState.ENROLLED
    assert client.signing_key == own.signing.public_key().public_bytes_raw()
    with pytest.raises(AuthenticationError, match="enrolment refused"):
        remote.enrol("clinic-a", token, keys.create(tmp_path / "other"))


def test_an_expired_invitation_is_refused(delivery, remote: Remote, tmp_path: Path) -> None:
    token = invite(delivery.store, "clinic-a", datetime.now(UTC) - timedelta(days=8))
    with pytest.raises(AuthenticationError, match="enrolment refused"):
        remote.enrol("clinic-a", token, keys.create(tmp_path / "keys"))


def test_a_file_comes_whole_and_is_told_about(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = remote.download("proxies/tiny", weights, tmp_path, lambda done, total: told.append((done, total)))

    assert path == tmp_path / "model.safetensors"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_download_goes_on_wherever_it_was_cut(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    generator = random.Random(1)
    for number in range(40):
        into = tmp_path / str(number)
        into.mkdir()
        offset = generator.choice([0, 1, len(CONTENT) - 1, len(CONTENT), generator.randrange(len(CONTENT))])
        if offset:
            PartialFile(into, weights).append(CONTENT[:offset])
        told: list[int] = []
        path = remote.download("proxies/tiny", weights, into, lambda done, _, told=told: told.append(done))
        assert path.read_bytes() == CONTENT
        assert [item.name for item in into.iterdir()] == ["model.safetensors"]
        assert offset == len(CONTENT) or offset < told[0] <= offset + 65_536


def test_a_cable_that_keeps_breaking_delays_and_nothing_else(
    delivery, weights: FileRef, tmp_path: Path
) -> None:
    generator = random.Random(2)
    cuts: list[int | None] = [generator.randrange(80_000, 300_000) for _ in range(4)]
    cable = Cable(delivery.port, cuts)
    told: list[int] = []
    with Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=20) as remote:
        path = remote.download("proxies/tiny", weights, tmp_path, lambda done, _: told.append(done))
    cable.close()

    assert path.read_bytes() == CONTENT
    assert len(cuts) < 4
    assert told == sorted(set(told))


def test_a_broken_connection_leaves_a_part_and_no_file(delivery, weights: FileRef, tmp_path: Path) -> None:
    cable = Cable(delivery.port, [200_000])
    into = tmp_path / "into"
    into.mkdir()

    def close(_done: int, _total: int) -> None:
        cable.close()

    with (
        Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=5) as remote,
        pytest.raises(UnavailableError, match="no coordinator answers at"),
    ):
        remote.download("proxies/tiny", weights, into, close)
    assert [path.suffix for path in into.iterdir()] == [".part"]
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        assert remote.download("proxies/tiny", weights, into).read_bytes() == CONTENT


def test_other_bytes_than_announced_are_thrown_away(
    delivery, remote: Remote, weights: FileRef, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (delivery.directory / "offered" / weights.path).write_bytes(b"x" + CONTENT[1:])

    with pytest.raises(
        VerificationError, match=r"model\.safetensors: 700000 bytes with SHA-256 .* were announced"
    ):
        remote.download("proxies/tiny", weights, into)
    assert list(into.iterdir()) == []


def test_a_part_that_went_bad_is_thrown_away(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    PartialFile(into, weights).append(b"y" * 1000)
    with pytest.raises(VerificationError):
        remote.download("proxies/tiny", weights, into)
    assert remote.download("proxies/tiny", weights, into).read_bytes() == CONTENT


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_way_to_cut_a_file_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("cut")
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    for start, end in pairwise(bounds):
        PartialFile(directory, FileRef.of_bytes("f", content)).append(content[start:end])
    assert PartialFile(directory, FileRef.of_bytes("f", content)).finish().read_bytes() == content


def test_more_bytes_than_announced_are_refused_at_once(tmp_path: Path) -> None:
    part = PartialFile(tmp_path, FileRef.of_bytes("f", b"1234"))
    part.append(b"123")
    with pytest.raises(VerificationError, match="more than the announced 4 bytes came"):
        part.append(b"45")
    assert list(tmp_path.iterdir()) == []


def test_a_coordinator_that_is_down_is_named(delivery) -> None:
    delivery.server.stop(0)
    with (
        Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote,
        pytest.raises(
            UnavailableError, match=f"^no coordinator answers at {delivery.address}: connection refused$"
        ),
    ):
        remote.proxy("tiny")


def test_a_host_that_does_not_exist_is_named(delivery) -> None:
    with (
        Remote("nowhere.invalid:9292", delivery.paths.ca.read_bytes(), timeout_s=10) as remote,
        pytest.raises((UnavailableError, DeadlineError), match=r"nowhere\.invalid:9292"),
    ):
        remote.proxy("tiny")


def test_a_wrong_ca_is_told_apart_from_silence(delivery, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    with (
        Remote(delivery.address, other.ca.read_bytes()) as remote,
        pytest.raises(VerificationError, match=r"is not signed by the given CA$"),
    ):
        remote.proxy("tiny")


def test_somebody_else_listening_is_told(delivery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            Remote(address, delivery.paths.ca.read_bytes(), timeout_s=0.5) as remote,
            pytest.raises(DeadlineError, match=f"the coordinator at {address} did not answer in time"),
        ):
            remote.proxy("tiny")
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with (
        Remote(f"127.0.0.1:{port}", delivery.paths.ca.read_bytes(), timeout_s=10) as remote,
        pytest.raises(UnavailableError, match=r"does not speak TLS 1\.3"),
    ):
        remote.proxy("tiny")
    server.stop(None)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "http://host:1", "a b:1", "::1:80", "host:1/x"]
)
def test_an_address_that_is_none_is_refused(delivery, address: str) -> None:
    with pytest.raises(UsageError, match="is not host:port"):
        Remote(address, delivery.paths.ca.read_bytes())


@pytest.mark.parametrize(
    "ca", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_that_is_none_is_refused(ca: bytes) -> None:
    with pytest.raises(UsageError, match="the CA is not a PEM certificate"):
        Remote("127.0.0.1:1", ca)


def test_an_oversize_request_is_refused_in_one_line(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"RESOURCE_EXHAUSTED: .*larger than max"):
        remote.enrol("clinic-a", "t" * 70_000, keys.create(tmp_path / "keys"))


class Hostile(service_pb2_grpc.PromptServiceServicer, service_pb2_grpc.ProxyServiceServicer):
    """Answers with whatever it was given."""

    def __init__(self, version: service_pb2.PromptVersion, proxy: service_pb2.Proxy) -> None:
        self.version, self.proxy = version, proxy

    def GetPromptVersion(self, _request, _context):  # noqa: N802
        return self.version

    def GetProxy(self, _request, context):  # noqa: N802
        context.set_trailing_metadata((("promptferry-error", "not_found"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "\x1b[2Jgone\nforever")


@pytest.fixture
def hostile(pki_paths: PkiPaths) -> Iterator[tuple[Hostile, Remote]]:
    service = Hostile(service_pb2.PromptVersion(), service_pb2.Proxy())
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_PromptServiceServicer_to_server(service, server)
    service_pb2_grpc.add_ProxyServiceServicer_to_server(service, server)
    pair = (pki_paths.key.read_bytes(), pki_paths.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    with Remote(f"127.0.0.1:{port}", pki_paths.ca.read_bytes()) as remote:
        yield service, remote
    server.stop(None)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/b", "..", ".hidden", "", "a\0b", "x" * 300])
def test_a_file_name_that_leads_elsewhere_is_refused(hostile: tuple[Hostile, Remote], path: str) -> None:
    service, remote = hostile
    file = service_pb2.FileRef(path=path, size=1, digest="a" * 64)
    service.version = service_pb2.PromptVersion(name="prompts/x/versions/1", files=[file])
    with pytest.raises(VerificationError, match="is not a plain file name"):
        remote.prompt_version("x")


@pytest.mark.parametrize("name", ["", "prompts/x/versions/latest", "prompts/../versions/1", "proxies/x"])
def test_a_resource_name_that_is_none_is_refused(hostile: tuple[Hostile, Remote], name: str) -> None:
    service, remote = hostile
    service.version = service_pb2.PromptVersion(name=name)
    with pytest.raises(PromptferryError, match="name"):
        remote.prompt_version("x")


def test_words_from_the_other_side_cannot_play_with_the_terminal(hostile: tuple[Hostile, Remote]) -> None:
    with pytest.raises(NotFoundError) as caught:
        hostile[1].proxy("x")
    assert str(caught.value) == "[2Jgone forever"


def test_a_proxy_is_fetched_verified_and_whole(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    told: list[tuple[int, int]] = []
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()

    path = fetch_proxy(remote, "tiny", key, tmp_path / "got", lambda done, total: told.append((done, total)))

    assert ModelRef.of_directory("tiny", path) == record.model
    total = sum(file.size for file in record.files)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(AlreadyExistsError, match="got exists already"):
        fetch_proxy(remote, "tiny", key, path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"proxy": {"name": "other", "digest": "a" * 64}}, "is about 'other'"),
        ({"proxy": {"name": "tiny", "digest": "a" * 64}}, "signed was aaaaaaaaaaaaaaaa"),
        ({"proxy": None}, "proxy 'tiny': signed statement cannot be read: proxy: "),
        ({"proxy": {"name": "tiny", "digest": "short"}}, "proxy.digest: .*, got 'short'"),
    ],
)
def test_a_proxy_that_is_not_what_was_signed_is_not_kept(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path, told: dict[str, object], message: str
) -> None:
    delivery.add_proxy("tiny", tiny_causal, **told)
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    into = tmp_path / "into" / "got"

    with pytest.raises(VerificationError, match=message):
        fetch_proxy(remote, "tiny", key, into)
    assert not into.parent.exists() or list(into.parent.iterdir()) == []


def test_a_proxy_of_another_publisher_is_not_downloaded(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    delivery.add_proxy("tiny", tiny_causal)
    with pytest.raises(VerificationError, match="signed by key"):
        fetch_proxy(remote, "tiny", Ed25519PrivateKey.generate().public_key(), tmp_path / "into" / "got")
    assert not (tmp_path / "into").exists()


def test_every_tampered_file_of_a_proxy_is_found(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    for index, original in enumerate(sorted(tiny_causal.iterdir())):
        copy = tmp_path / f"copy-{index}"
        copy.mkdir()
        for path in tiny_causal.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        delivery.add_proxy(f"tiny-{index}", copy)
        content = bytearray(original.read_bytes())
        content[len(content) // 2] ^= 1
        (copy / original.name).write_bytes(content)

        into = tmp_path / f"into-{index}"
        with pytest.raises(VerificationError, match=re.escape(original.name)):
            fetch_proxy(remote, f"tiny-{index}", key, into / "got")
        assert list(into.iterdir()) == []


def test_files_offered_beside_the_signed_ones_are_refused(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    digests = {file.path: file.digest for file in record.files[1:]}
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    said = dict(Statement.verified(record.statement, key, PROXY_PREDICATE).predicate)
    said["proxy"] = {"name": "less", "digest": record.model.digest}
    signer = pki.load_publisher(delivery.paths.publisher_key)
    envelope = sign(statement(digests, PROXY_PREDICATE, said), STATEMENT_TYPE, signer)
    delivery.store.add_proxy(replace(record, name="less", statement=envelope))
    with pytest.raises(VerificationError, match="the files offered are not the ones in the signed statement"):
        fetch_proxy(remote, "less", signer.public_key(), tmp_path / "got")


def test_an_interrupted_fetch_is_invisible_and_goes_on(delivery, tiny_causal: Path, tmp_path: Path) -> None:
    delivery.add_proxy("tiny", tiny_causal)
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    cable = Cable(delivery.port, [60_000])
    into = tmp_path / "into" / "got"
    with (
        Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=5) as remote,
        pytest.raises(UnavailableError),
    ):
        fetch_proxy(remote, "tiny", key, into, lambda _done, _total: cable.close())
    assert not into.exists()
    (stage,) = into.parent.iterdir()
    assert any(path.stat().st_size for path in stage.iterdir())

    told: list[int] = []
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        fetch_proxy(remote, "tiny", key, into, lambda done, _: told.append(done))
    assert list(into.parent.iterdir()) == [into]


def test_two_processes_do_not_mix_their_downloads(tmp_path: Path) -> None:
    with (
        staged(tmp_path / "got", "abc"),
        pytest.raises(UnavailableError, match="another process is downloading this"),
        staged(tmp_path / "got", "abc"),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file"), staged(tmp_path / "file" / "got", "abc"):
        pass
