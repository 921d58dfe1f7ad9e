"""A coordinator over the network: promptferry.v1 as unverified values, gRPC statuses as this project's errors."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Protocol, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.remote.download import OnBytes, resumed
from client.remote.errors import raise_ours
from client.remote.offers import PromptOffer, ProxyOffer
from promptferry.v1 import service_pb2, service_pb2_grpc
from transfer import names
from transfer.errors import UsageError, VerificationError
from transfer.files.atomic import FileRef
from transfer.protocol.signing import proof_content
from transfer.protocol.wire import envelope_value, model_value

PAGE_SIZE = 100
MAX_RESPONSE_BYTES = 16 * 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),  # detect a peer that vanished during a download
    ("grpc.keepalive_timeout_ms", 10_000),
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")


class OwnerKeys(Protocol):
    """The keys with which a data owner enrols; `client.vault.keys.Keys` in production."""

    @property
    def signing(self) -> Ed25519PrivateKey:
        """Signs releases."""

    @property
    def node(self) -> EllipticCurvePrivateKey:
        """Proves the node's identity to Flower's server."""


class Remote:
    """Connection to one coordinator; use it as a context.

    Args:
        address: host:port.
        ca_pem: the only authority whose server certificate is accepted.
        timeout_s: longest time of a call, or of a pause in a download.

    Every call raises `UnavailableError` if nothing answers, `VerificationError` if the server's certificate is of
    another authority or for another host, and `DeadlineError` if the time runs out.

    Raises:
        UsageError: the address or the authority is malformed.
    """

    def __init__(self, address: str, ca_pem: bytes, timeout_s: float = 30.0) -> None:
        if not _ADDRESS.fullmatch(address):
            raise UsageError(f"coordinator address {address!r} is not host:port")
        try:
            x509.load_pem_x509_certificates(ca_pem)
        except ValueError as error:
            raise UsageError("the CA is not a PEM certificate") from error
        self.address, self._timeout_s = address, timeout_s
        credentials = grpc.ssl_channel_credentials(ca_pem)
        self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self._prompts = service_pb2_grpc.PromptServiceStub(self._channel)
        self._proxies = service_pb2_grpc.ProxyServiceStub(self._channel)
        self._enrolment = service_pb2_grpc.EnrolmentServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def prompt_version(self, prompt: str, version: int | None = None) -> PromptOffer:
        """Return one published version; None for the latest."""
        request = service_pb2.GetPromptVersionRequest(name=names.prompt_version(prompt, version))
        with self._calling():
            return _prompt_offer(self._prompts.GetPromptVersion(request, timeout=self._timeout_s))

    def prompt_versions(self, prompt: str | None = None) -> Iterator[PromptOffer]:
        """Yield the published versions of one prompt or of all, newest first, fetched page by page."""
        request = service_pb2.ListPromptVersionsRequest(
            parent=names.prompt_parent(prompt), page_size=PAGE_SIZE
        )
        while True:
            with self._calling():
                page = self._prompts.ListPromptVersions(request, timeout=self._timeout_s)
                offers = [_prompt_offer(message) for message in page.prompt_versions]
            yield from offers
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def proxy(self, name: str) -> ProxyOffer:
        """Return one proxy."""
        request = service_pb2.GetProxyRequest(name=names.proxy(name))
        with self._calling():
            return _proxy_offer(self._proxies.GetProxy(request, timeout=self._timeout_s))

    def proxies(self) -> Iterator[ProxyOffer]:
        """Yield every proxy, newest first, fetched page by page."""
        request = service_pb2.ListProxiesRequest(page_size=PAGE_SIZE)
        while True:
            with self._calling():
                page = self._proxies.ListProxies(request, timeout=self._timeout_s)
                offers = [_proxy_offer(message) for message in page.proxies]
            yield from offers
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def enrol(self, client: str, token: str, keys: OwnerKeys) -> str:
        """Register the public halves of `keys` with an invitation; the same call again changes nothing.

        Returns:
            host:port of Flower's Fleet API.

        Raises:
            AuthenticationError: the invitation is unknown, used or expired.
            AlreadyExistsError: a key is in use under another name.
        """
        node_key = keys.node.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        request = service_pb2.EnrolClientRequest(
            client=client,
            token=token,
            node_key=node_key,
            signing_key=keys.signing.public_key().public_bytes_raw(),
            proof=keys.signing.sign(proof_content(client, token, node_key)),
        )
        with self._calling():
            return self._enrolment.EnrolClient(request, timeout=self._timeout_s).fleet_address

    def download(self, name: str, file: FileRef, into: Path, on_bytes: OnBytes | None = None) -> Path:
        """Download one file of a prompt version or a proxy; see `client.remote.download.resumed`.

        Args:
            name: resource name of a prompt version or a proxy.
            file: path, size and digest as listed there.
            into: directory; the file appears in it complete and verified.
            on_bytes: called with the progress.

        Raises:
            VerificationError: size or digest is not the announced one.
        """
        stub = (
            self._prompts.DownloadPromptFile
            if name.startswith("prompts/")
            else self._proxies.DownloadProxyFile
        )

        def chunks(offset: int) -> Iterator[bytes]:
            request = service_pb2.DownloadRequest(name=name, path=file.path, offset=offset)
            with self._calling():
                for response in stub(request, timeout=self._timeout_s):
                    yield response.chunk

        return resumed(chunks, file, into, on_bytes)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as fault:
            raise_ours(fault, self.address)


def _prompt_offer(message: service_pb2.PromptVersion) -> PromptOffer:
    prompt, version = names.parse_prompt_version(message.name)
    if version is None:
        raise VerificationError(f"the coordinator offers {message.name!r}, which names no version")
    return PromptOffer(
        prompt,
        version,
        message.create_time.ToDatetime(tzinfo=UTC),
        envelope_value(message.statement),
        _files(message.files),
    )


def _proxy_offer(message: service_pb2.Proxy) -> ProxyOffer:
    return ProxyOffer(
        name=names.parse_proxy(message.name),
        model=model_value(message.model),
        parent=model_value(message.parent),
        layers=tuple(message.layers),
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        statement=envelope_value(message.statement),
        files=_files(message.files),
    )


def _files(messages: Iterable[service_pb2.FileRef]) -> tuple[FileRef, ...]:
    return tuple(FileRef(message.path, message.size, message.digest) for message in messages)
