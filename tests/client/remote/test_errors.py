"""gRPC's failures become our errors: one line, one exit status."""

import re
import socket

import grpc
import pytest

from client.remote.coordinator import Remote
from tests.client.remote.network import Hostile
from transfer.errors import (
    DeadlineError,
    NotFoundError,
    UnavailableError,
)


def test_the_remote_raises_what_the_store_raises(delivery, remote: Remote) -> None:
    for far, near in [
        (lambda: remote.prompt_version("sst2"), lambda: delivery.store.prompt_version("sst2")),
        (lambda: remote.prompt_version("sst2", 3), lambda: delivery.store.prompt_version("sst2", 3)),
        (lambda: remote.proxy("tiny"), lambda: delivery.store.proxy("tiny")),
    ]:
        with pytest.raises(NotFoundError) as there:
            near()
        with pytest.raises(NotFoundError, match=f"^{re.escape(str(there.value))}$"):
            far()


def test_a_coordinator_that_is_down_is_named(delivery) -> None:
    delivery.server.stop(0)
    with (
        Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote,
        pytest.raises(
            UnavailableError, match=f"^no coordinator answers at {delivery.address}: connection refused$"
        ),
    ):
        remote.proxy("tiny")


def test_a_host_that_does_not_exist_is_named(delivery) -> None:
    with (
        Remote("nowhere.invalid:9292", delivery.paths.ca.read_bytes(), timeout_s=10) as remote,
        pytest.raises((UnavailableError, DeadlineError), match=r"nowhere\.invalid:9292"),
    ):
        remote.proxy("tiny")


def test_somebody_else_listening_is_told(delivery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            Remote(address, delivery.paths.ca.read_bytes(), timeout_s=0.5) as remote,
            pytest.raises(DeadlineError, match=f"the coordinator at {address} did not answer in time"),
        ):
            remote.proxy("tiny")
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with (
        Remote(f"127.0.0.1:{port}", delivery.paths.ca.read_bytes(), timeout_s=10) as remote,
        pytest.raises(UnavailableError, match=r"does not speak TLS 1\.3"),
    ):
        remote.proxy("tiny")
    server.stop(None)


def test_words_from_the_other_side_cannot_play_with_the_terminal(hostile: tuple[Hostile, Remote]) -> None:
    with pytest.raises(NotFoundError) as caught:
        hostile[1].proxy("x")
    assert str(caught.value) == "[2Jgone forever"
