"""What tests of this room share."""

from collections.abc import Callable, Iterator

import grpc
import pytest
import torch

from promptferry.v1 import service_pb2, service_pb2_grpc
from transfer import names
from transfer.model_ref import ModelRef

TARGET = ModelRef("target", "a" * 64)
VECTORS = torch.ones(2, 4)


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
