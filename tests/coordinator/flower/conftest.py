"""A Flower world on loopback: certificates, a federation and nodes in threads."""

import datetime
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.daemon.link import Link
from client.daemon.polling import serve
from coordinator.flower.federation import Federation
from coordinator.network.https_server import LinkSettings

Answer = Callable[[bytes], bytes]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with ca.pem, server.pem, server.key (for 127.0.0.1) and the unrelated stranger.pem."""
    directory = tmp_path_factory.mktemp("pki")
    ca_key, ca = _certificate("test CA")
    server_key, server = _certificate("server", ca_key, ca)
    _, stranger = _certificate("stranger CA")
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "server.pem").write_bytes(server.public_bytes(pem))
    (directory / "stranger.pem").write_bytes(stranger.public_bytes(pem))
    private = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "server.key").write_bytes(server_key.private_bytes(*private))
    return directory


@pytest.fixture
def link_settings(pki: Path, tmp_path: Path) -> LinkSettings:
    return _settings(pki, tmp_path)


@pytest.fixture(scope="session")
def federation(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(_settings(pki, tmp_path_factory.mktemp("federation"))) as opened:
        yield opened


@dataclass
class Nodes:
    """Starts nodes in threads and keeps what their `serve` raised."""

    ca_pem: bytes
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    raised: dict[str, BaseException] = field(default_factory=dict)
    running: dict[str, tuple[threading.Event, threading.Thread]] = field(default_factory=dict)

    def enrol(self, federation: Federation, *names: str) -> None:
        for name in names:
            self.keys[name] = ec.generate_private_key(ec.SECP384R1())
            federation.register(public_pem(self.keys[name]), name)

    def start(self, federation: Federation, name: str, answer: Answer) -> threading.Thread:
        link = Link(federation.address, self.ca_pem, self.keys[name], poll_s=0.1)
        stop = threading.Event()

        def run() -> None:
            try:
                serve(link, answer, stop)
            except BaseException as error:  # noqa: BLE001 -- SystemExit too, as a killed daemon
                self.raised[name] = error

        thread = threading.Thread(target=run, name=name)
        self.running[name] = stop, thread
        thread.start()
        return thread

    def await_online(self, federation: Federation, *names: str) -> None:
        deadline = time.monotonic() + 30
        while not federation.online().keys() >= set(names):
            assert time.monotonic() < deadline, f"{names} did not come online"
            time.sleep(0.02)

    def stop(self) -> None:
        for stop, _ in self.running.values():
            stop.set()
        for _, thread in self.running.values():
            thread.join()


@pytest.fixture
def nodes(pki: Path) -> Iterator[Nodes]:
    made = Nodes((pki / "ca.pem").read_bytes())
    yield made
    made.stop()


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def _settings(pki: Path, directory: Path) -> LinkSettings:
    database = directory / "flower.db"
    return LinkSettings("127.0.0.1", 0, pki / "server.pem", pki / "server.key", pki / "ca.pem", database)


def _certificate(
    name: str, signer: ec.EllipticCurvePrivateKey | None = None, issuer: x509.Certificate | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
    return key, builder.sign(signer or key, hashes.SHA256())
