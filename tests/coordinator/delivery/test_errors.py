"""Every error of ours is one gRPC status, and nothing else shows."""

from pathlib import Path

import grpc
import pytest

from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.errors import ANSWERS
from coordinator.delivery.server import DeliveryServer
from coordinator.home.pki import PkiPaths
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.coordinator.delivery.calls import refused
from transfer.errors import ConfigError, PromptferryError


def test_every_error_class_has_a_status() -> None:
    def tree(kind: type[PromptferryError]) -> set[type[PromptferryError]]:
        return {kind}.union(*(tree(child) for child in kind.__subclasses__()))

    assert {kind for kind in tree(PromptferryError) if kind.__module__ == "transfer.errors"} == set(ANSWERS)


@pytest.mark.parametrize(
    "error", [RuntimeError("/srv/secret is broken"), ConfigError("/srv/secret is broken")]
)
def test_a_failure_inside_says_only_that(
    delivery, pki_paths: PkiPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    class Broken(Enrolment):
        def enrol(self, *_: object) -> None:
            raise error

    broken = Broken(delivery.store, lambda _key, _name: 1, "fleet:1")
    server = DeliveryServer(delivery.store, "127.0.0.1", 0, pki_paths, broken, tmp_path)
    credentials = grpc.ssl_channel_credentials(pki_paths.ca.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.start()}", credentials) as channel:
        stub = service_pb2_grpc.EnrolmentServiceStub(channel)
        told = refused(lambda: stub.EnrolClient(service_pb2.EnrolClientRequest(), timeout=20))
    server.stop(0)

    assert told == (grpc.StatusCode.INTERNAL, "internal error", None)
    assert "/srv/secret is broken" in caplog.text
