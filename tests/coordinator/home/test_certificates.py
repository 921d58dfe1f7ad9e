"""Certificates are what a strict TLS client accepts."""

import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from transfer.errors import UsageError


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


@pytest.mark.parametrize("host", ["", "a b", "https://x", "host:80", "bücher.example"])
def test_an_impossible_host_makes_nothing(tmp_path: Path, host: str) -> None:
    paths = PkiPaths.under(tmp_path / "new")
    with pytest.raises(UsageError, match="neither a host name"):
        pki.create(paths, [host])
    assert not (tmp_path / "new").exists()
