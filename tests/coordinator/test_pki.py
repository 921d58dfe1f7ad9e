import os
import socket
import ssl
import threading
from dataclasses import astuple, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from coordinator import pki
from coordinator.pki import PkiPaths
from transfer.errors import AlreadyExistsError, ConfigError, PromptferryError, UsageError


@pytest.fixture
def paths(tmp_path: Path) -> PkiPaths:
    paths = PkiPaths.under(tmp_path / "coordinator")
    pki.create(paths, ["coordinator.example", "192.0.2.7"])
    return paths


def test_private_files_are_their_owners_alone(paths: PkiPaths) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in astuple(paths)}

    private = {"ca.key", "server.key", "publisher.key", "secret"}
    assert {name for name, mode in modes.items() if mode == 0o600} >= private
    assert all(mode & 0o022 == 0 for mode in modes.values())
    assert {path.name for path in paths.ca.parent.iterdir()} == {
        "ca.pem",
        "ca.key",
        "server.pem",
        "server.key",
    }


def test_the_certificate_covers_loopback_and_the_hosts_given(paths: PkiPaths) -> None:
    certificate = x509.load_pem_x509_certificate(paths.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["localhost", "coordinator.example"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "::1", "192.0.2.7"]
    key = certificate.public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    assert isinstance(key.curve, SECP256R1)
    assert certificate.not_valid_before_utc < datetime.now(UTC) < certificate.not_valid_after_utc


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "coordinator.example"])
def test_a_strict_tls_client_accepts_the_certificate(paths: PkiPaths, host: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(paths.certificate, paths.key)
    client = ssl.create_default_context(cafile=str(paths.ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()
    with left, right:
        shaking = threading.Thread(target=lambda: server.wrap_socket(left, server_side=True).close())
        shaking.start()
        with client.wrap_socket(right, server_hostname=host) as secured:
            assert secured.version() == "TLSv1.3"
        shaking.join(10)


def test_the_publishers_halves_belong_together(paths: PkiPaths) -> None:
    key = pki.load_publisher(paths.publisher_key)
    assert load_pem_public_key(paths.publisher_public_key.read_bytes()) == key.public_key()
    assert len(pki.load_secret(paths.secret)) == 32


@pytest.mark.parametrize("name", ["ca", "ca_key", "key", "publisher_key", "publisher_public_key", "secret"])
def test_nothing_is_overwritten_and_nothing_new_is_made(tmp_path: Path, name: str) -> None:
    paths = PkiPaths.under(tmp_path)
    existing: Path = getattr(paths, name)
    existing.parent.mkdir(exist_ok=True)
    existing.write_text("mine")

    with pytest.raises(AlreadyExistsError, match=f"{existing.name} exists already"):
        pki.create(paths)
    assert [path for path in astuple(paths) if path.exists()] == [existing]
    assert existing.read_text() == "mine"


@pytest.mark.parametrize("host", ["", "a b", "https://x", "host:80", "bücher.example"])
def test_an_impossible_host_makes_nothing(tmp_path: Path, host: str) -> None:
    paths = PkiPaths.under(tmp_path / "new")
    with pytest.raises(UsageError, match="neither a host name"):
        pki.create(paths, [host])
    assert not (tmp_path / "new").exists()


def test_a_failure_in_between_leaves_no_half_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    paths = replace(PkiPaths.under(tmp_path), secret=tmp_path / "file" / "secret")

    with pytest.raises(UsageError, match="cannot make keys"):
        pki.create(paths)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "file"]


@pytest.mark.parametrize("name", ["publisher_key", "secret", "key"])
@pytest.mark.parametrize("damage", ["missing", "open", "garbage"])
def test_an_unusable_key_is_one_line_that_names_the_file(paths: PkiPaths, name: str, damage: str) -> None:
    path: Path = getattr(paths, name)
    if damage == "missing":
        path.unlink()
    elif damage == "open":
        path.chmod(0o640)
    else:
        path.write_text("garbage")
    load = {
        "publisher_key": lambda: pki.load_publisher(path),
        "secret": lambda: pki.load_secret(path),
        "key": lambda: pki.load_server(paths),
    }[name]

    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert damage != "open" or f"chmod 600 {path}" in str(caught.value)


def test_a_certificate_of_another_key_is_refused(paths: PkiPaths, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    with pytest.raises(ConfigError, match="not the ECDSA key of the certificate"):
        pki.load_server(replace(paths, key=other.key))
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        pki.load_server(replace(paths, certificate=other.secret))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptferryError, match=os.fspath(tmp_path)):
        pki.create(PkiPaths.under(tmp_path / "file" / "x"))
