"""Request bodies and heads of those who may be anybody, through the real HTTPS server."""

import select
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from coordinator.flower.path_filter import BodyLimits, PathFilter
from coordinator.network.admission import Admission, AdmissionLimits
from coordinator.network.https_server import HttpsServer

KNOWN = "x-known"
LIMITS = BodyLimits(unknown_bytes=1000, unknown_sum=2500, unknown_s=1.0, known_s=5.0)


@pytest.fixture
def server(link_settings):
    async def echo(scope, receive, send):
        if scope["type"] == "http":
            body = await Request(scope, receive).body()
            await PlainTextResponse(str(len(body)))(scope, receive, send)

    door = Admission(AdmissionLimits(first_s=1.0))
    gate = PathFilter(echo, "secret", lambda headers: KNOWN in headers, door, LIMITS)
    with HttpsServer(gate, link_settings, door) as listener:
        yield int(listener.address.rpartition(":")[2])


def connected(port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))


@contextmanager
def sent(port: int, size: int, body: int, head: str = ""):
    with connected(port) as connection:
        lines = f"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n{head}\r\n"
        connection.sendall(lines.encode() + bytes(body))
        yield connection


def answer(connection: ssl.SSLSocket) -> tuple[int, bool]:
    """Status, and whether the connection was closed after it."""
    connection.settimeout(8)
    data = b""
    try:
        while part := connection.recv(65_536):
            data += part
            if b"connection: close" not in data and b"\r\n\r\n" in data:
                return int(data.split()[1]), False
    except (ssl.SSLError, ConnectionError):
        pass
    return int(data.split()[1]), True


def test_a_large_body_is_for_registered_senders(server) -> None:
    with sent(server, 1001, 0) as stranger:
        assert answer(stranger) == (413, True)
    with sent(server, 100_000, 100_000, f"{KNOWN}: 1\r\n") as node:
        assert answer(node) == (200, False)
    with sent(server, 1000, 1000) as stranger:
        assert answer(stranger) == (200, False)


def test_an_unfinished_body_is_dropped_in_time(server) -> None:
    started = time.monotonic()
    with sent(server, 1000, 999) as stranger:
        assert answer(stranger) == (408, True)
    assert 0.9 < time.monotonic() - started < 4


def test_unfinished_bodies_are_bounded_in_sum_and_nodes_pass_meanwhile(server) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(sent(server, 1000, 10))
        time.sleep(0.2)
        with sent(server, 1000, 1000) as stranger:
            assert answer(stranger) == (503, True)
        with sent(server, 1000, 1000, f"{KNOWN}: 1\r\n") as node:
            assert answer(node) == (200, False)
    time.sleep(0.3)
    with sent(server, 1000, 1000) as stranger:
        assert answer(stranger) == (200, False)


@pytest.mark.parametrize("says", [None, b"", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_a_connection_that_never_asks_is_closed_whether_it_spoke_tls_or_not(server, says) -> None:
    with ExitStack() as stack:
        if says is None:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server), 10))
        else:
            connection = stack.enter_context(connected(server))
            connection.sendall(says)
        started = time.monotonic()
        assert select.select([connection], [], [], 8)[0]
        assert time.monotonic() - started < 4


def test_a_head_without_end_is_refused_when_it_is_large(server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        for _ in range(3):
            connection.sendall(b"x-more: " + b"y" * 60_000 + b"\r\n")
        assert answer(connection)[0] == 400
