"""What tests of this room share."""

from collections.abc import Iterator

import grpc
import pytest

from promptferry.v1 import service_pb2_grpc


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
