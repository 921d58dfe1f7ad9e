"""What tests of this room share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from client.remote.coordinator import Remote
from coordinator.home.pki import PkiPaths
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.client.remote.network import Hostile


@pytest.fixture
def remote(delivery) -> Iterator[Remote]:
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        yield remote


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
