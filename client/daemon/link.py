"""The coordinator's address and certificate, and the reasons why a connection to it fails."""

import re
import ssl
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from transfer import hints
from transfer.errors import AuthenticationError, ConfigError, UnavailableError

LEASE_S = 30.0  # a silent node counts as offline after this; Flower's own nodes take 60 s
TIMEOUT_S, CONNECT_TIMEOUT_S = 30.0, 5.0
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True, slots=True)
class Link:
    """What a node needs to reach its coordinator and to prove its identity there.

    Attributes:
        address: `host:port` of the coordinator's Flower endpoint.
        ca_pem: the only certificate authority that may sign the coordinator's certificate.
        node_key: P-384 key registered at enrolment.
        poll_s: pause between two polls for work, 0.01..60 s; grows to five times that while idle.

    Raises:
        ConfigError: a value cannot be used.
    """

    address: str
    ca_pem: bytes
    node_key: ec.EllipticCurvePrivateKey = field(repr=False)
    poll_s: float = 0.2

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not _HOST.fullmatch(host) or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"address {self.address!r} is not host:port, for example 127.0.0.1:9191")
        if not isinstance(self.node_key.curve, ec.SECP384R1):
            raise ConfigError(f"the node key is on curve {self.node_key.curve.name}; it must be secp384r1")
        if not 0.01 <= self.poll_s <= 60:
            raise ConfigError(f"poll_s {self.poll_s} is outside 0.01..60 seconds")
        try:
            x509.load_pem_x509_certificates(self.ca_pem)
        except ValueError as error:
            raise ConfigError("the pinned CA is not a PEM certificate; enrol again") from error

    def trust(self) -> ssl.SSLContext:
        """Require TLS 1.3 and a server certificate that the pinned CA signed for this address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))
        return context

    def http(self, trust: ssl.SSLContext) -> httpx.Client:
        """Make an HTTP client that follows no redirect; it uses the environment's proxy only for other hosts."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            is_loopback = ip_address(host).is_loopback
        except ValueError:
            is_loopback = host == "localhost"
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        return httpx.Client(verify=trust, timeout=timeout, trust_env=not is_loopback)

    def shown_until(self) -> datetime:
        """Return when the coordinator's current certificate expires.

        Raises:
            httpx.HTTPError: there is no connection.
        """
        with self.http(self.trust()) as http, http.stream("GET", f"https://{self.address}/") as response:
            secured = response.extensions["network_stream"].get_extra_info("ssl_object")
            shown = x509.load_der_x509_certificate(secured.getpeercert(True))
            return shown.not_valid_after_utc

    def explain(self, error: Exception) -> str:
        """Return the reason why there is no connection now, or raise if waiting will not help.

        Raises:
            UnavailableError: the server's certificate is not accepted.
            AuthenticationError: this node's key or signature is not accepted.
        """
        if untrusted := _certificate_error(error):
            if untrusted.verify_code == EXPIRED:
                raise UnavailableError(
                    f"the server at {self.address} shows a certificate that has expired; its operator must "
                    "renew it, nothing is wrong here"
                ) from error
            raise UnavailableError(
                f"the server at {self.address} shows a certificate that is not signed by the pinned CA or "
                f"not for this address ({untrusted.verify_message}); check the address, or enrol again"
            ) from error
        if not isinstance(error, httpx.HTTPStatusError):
            return f"the coordinator at {self.address} cannot be reached ({type(error).__name__})"
        status = error.response.status_code
        if error.request.url.path.endswith("/activate-node"):
            return self._refused(status, error)
        return f"the coordinator at {self.address} answered with status {status}"

    def _refused(self, status: int, error: Exception) -> str:
        if status == httpx.codes.FORBIDDEN:
            raise AuthenticationError(
                f"this node's key is not registered at {self.address}; run "
                f"{hints.client('enrol INVITATION')} again"
            ) from error
        if status == httpx.codes.UNAUTHORIZED:
            raise AuthenticationError(
                f"{self.address} does not accept this node's signature: the clocks differ by more than 300 s; set "
                "this clock by NTP"
            ) from error
        if status == httpx.codes.PRECONDITION_FAILED:
            return (
                f"{self.address} still has this node's earlier connection (for up to {LEASE_S:.0f} s "
                "after a crash, or another daemon uses its key)"
            )
        return f"the coordinator at {self.address} refused this node with status {status}"


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
