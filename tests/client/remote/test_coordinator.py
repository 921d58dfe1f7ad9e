"""The client end of promptferry.v1 against a real server over TLS, sometimes through a cable that breaks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.remote.coordinator import Remote
from client.vault import keys
from coordinator.delivery.enrolment import invite
from coordinator.store.records import ClientState
from promptferry.v1 import service_pb2
from tests.client.remote.network import Hostile
from transfer.errors import (
    AuthenticationError,
    PromptferryError,
    UnavailableError,
    UsageError,
)


@pytest.mark.parametrize("name", ["", "A", "a/b", "-", "latest/../x"])
def test_an_impossible_name_is_not_even_sent(remote: Remote, name: str) -> None:
    remote.close()
    with pytest.raises(UsageError, match="name"):
        remote.prompt_version(name)
    with pytest.raises(UsageError, match="name"):
        remote.proxy(name)


def test_keys_are_enrolled_once_and_the_fleet_address_comes_back(
    delivery, remote: Remote, tmp_path: Path
) -> None:
    token = invite(delivery.store, "clinic-a", datetime.now(UTC))
    own = keys.create(tmp_path / "keys")

    assert remote.enrol("clinic-a", token, own) == "127.0.0.1:9191"
    assert remote.enrol("clinic-a", token, own) == "127.0.0.1:9191"
    client = delivery.store.client("clinic-a")
    assert client.state is ClientState.ENROLLED
    assert client.signing_key == own.signing.public_key().public_bytes_raw()
    with pytest.raises(AuthenticationError, match="enrolment refused"):
        remote.enrol("clinic-a", token, keys.create(tmp_path / "other"))


def test_an_expired_invitation_is_refused(delivery, remote: Remote, tmp_path: Path) -> None:
    token = invite(delivery.store, "clinic-a", datetime.now(UTC) - timedelta(days=8))
    with pytest.raises(AuthenticationError, match="enrolment refused"):
        remote.enrol("clinic-a", token, keys.create(tmp_path / "keys"))


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "http://host:1", "a b:1", "::1:80", "host:1/x"]
)
def test_an_address_that_is_none_is_refused(delivery, address: str) -> None:
    with pytest.raises(UsageError, match="is not host:port"):
        Remote(address, delivery.paths.ca.read_bytes())


@pytest.mark.parametrize(
    "ca", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_that_is_none_is_refused(ca: bytes) -> None:
    with pytest.raises(UsageError, match="the CA is not a PEM certificate"):
        Remote("127.0.0.1:1", ca)


def test_an_oversize_request_is_refused_in_one_line(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"RESOURCE_EXHAUSTED: .*larger than max"):
        remote.enrol("clinic-a", "t" * 70_000, keys.create(tmp_path / "keys"))


@pytest.mark.parametrize("name", ["", "prompts/x/versions/latest", "prompts/../versions/1", "proxies/x"])
def test_a_resource_name_that_is_none_is_refused(hostile: tuple[Hostile, Remote], name: str) -> None:
    service, remote = hostile
    service.version = service_pb2.PromptVersion(name=name)
    with pytest.raises(PromptferryError, match="name"):
        remote.prompt_version("x")
