"""What a link accepts, and how it explains a connection that fails."""

import datetime

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.daemon.link import Link
from transfer.errors import AuthenticationError, ConfigError

KEY = ec.generate_private_key(ec.SECP384R1())


@pytest.fixture(scope="module")
def ca_pem() -> bytes:
    name, now = x509.Name([]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + datetime.timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "address",
    ["", "host", ":9191", "host:", "host:0", "host:65536", "ho st:1", "https://host:1", "a/b:1", "-:1"],
)
def test_what_is_no_address_is_refused(ca_pem, address):
    with pytest.raises(ConfigError, match="host:port"):
        Link(address, ca_pem, KEY)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9191", "localhost:1", "[::1]:9191", "models.example.org:65535"]
)
def test_names_and_both_kinds_of_ip_address_are_accepted(ca_pem, address):
    assert Link(address, ca_pem, KEY).address == address


def test_other_curves_pauses_and_certificates_are_refused(ca_pem):
    with pytest.raises(ConfigError, match=r"secp256r1; it must be secp384r1"):
        Link("host:1", ca_pem, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match=r"poll_s 0 .*0\.01\.\.60"):
        Link("host:1", ca_pem, KEY, poll_s=0)
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        Link("host:1", b"-----BEGIN NOTHING-----", KEY)


def test_the_private_key_is_not_printed(ca_pem):
    assert "node_key" not in repr(Link("host:1", ca_pem, KEY))


def refused(status: int, path: str = "/v1/fleet/activate-node") -> httpx.HTTPStatusError:
    request = httpx.Request("POST", f"https://host:1{path}")
    return httpx.HTTPStatusError("text", request=request, response=httpx.Response(status, request=request))


def test_only_refusals_that_waiting_mends_are_waited_for(ca_pem):
    link = Link("host:1", ca_pem, KEY)
    assert "earlier connection" in link.explain(refused(412))
    assert "status 503" in link.explain(refused(503))
    assert "status 401" in link.explain(refused(401, "/v1/fleet/pull-messages"))
    assert "cannot be reached (ConnectTimeout)" in link.explain(httpx.ConnectTimeout("text"))
    with pytest.raises(AuthenticationError, match=r"not registered at host:1; .*client enrol"):
        link.explain(refused(403))
    with pytest.raises(AuthenticationError, match="clocks"):
        link.explain(refused(401))
