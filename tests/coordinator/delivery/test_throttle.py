"""Refused enrolments: slower each time, told in the log in bounds and without secrets; the honest do not wait."""

import logging
import re
import threading
import time
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.remote.coordinator import Remote
from client.vault.keys import Keys
from coordinator.delivery import throttle as refusals
from coordinator.delivery.enrolment import invite
from coordinator.store.records import utc_now
from transfer.errors import AuthenticationError


def keys() -> Keys:
    return Keys(Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def remote(delivery):
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        yield remote


def refused(remote: Remote, client: str, token: str) -> float:
    started = time.monotonic()
    with pytest.raises(AuthenticationError, match="unknown client, or a wrong, used or expired token"):
        remote.enrol(client, token, keys())
    return time.monotonic() - started


def test_a_refusal_is_one_line_with_address_and_reason_and_without_the_token(
    delivery, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    token = invite(delivery.store, "clinic-a", utc_now())
    with caplog.at_level(logging.WARNING):
        refused(remote, "clinic-a", "not-the-token")
        refused(remote, "clinic-b\nINFO forged", token)
    lines = [
        record.getMessage() for record in caplog.records if record.name == "coordinator.delivery.throttle"
    ]
    assert lines == [
        "enrolment of 'clinic-a' refused to 127.0.0.1: 'the token is wrong'",
        r"enrolment of 'clinic-b\nINFO forged' refused to 127.0.0.1: 'no such client was invited'",
    ]
    assert token not in caplog.text
    assert "not-the-token" not in caplog.text


def test_each_refusal_takes_longer_and_an_honest_enrolment_passes_meanwhile(delivery, remote: Remote) -> None:
    token = invite(delivery.store, "clinic-a", utc_now())
    first, second = refused(remote, "x", "y"), refused(remote, "x", "y")
    assert first >= 0.25
    assert second >= 0.5
    guess = threading.Thread(target=refused, args=(remote, "x", "y"))
    guess.start()
    time.sleep(0.1)
    started = time.monotonic()
    remote.enrol("clinic-a", token, keys())
    assert time.monotonic() - started < 0.9
    assert guess.is_alive()
    guess.join()


def test_a_flood_is_turned_away_unread_and_counted(
    delivery,
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(refusals, "LINES", 3)
    monkeypatch.setattr(refusals, "WAITING", 5)
    monkeypatch.setattr(refusals, "FIRST_WAIT_S", 2.0)
    request = b"\x0a\x01x"  # client x, and nothing else
    credentials = grpc.ssl_channel_credentials(delivery.paths.ca.read_bytes())
    with grpc.secure_channel(delivery.address, credentials) as channel:
        call = channel.unary_unary("/promptferry.v1.EnrolmentService/EnrolClient")
        waiting = [call.future(request, timeout=20) for _ in range(5)]
        time.sleep(0.5)
        turned_away = [call.future(request, timeout=20) for _ in range(40)]
        codes = {future.exception().code() for future in turned_away}
        text = turned_away[0].exception().details()
        for future in waiting:
            future.cancel()
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert re.fullmatch(r"too many refused enrolments from 127\.0\.0\.1; try again in 20 s", text)
    assert len([record for record in caplog.records if record.name == "coordinator.delivery.throttle"]) == 3
