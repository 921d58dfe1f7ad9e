"""A real serving process under strangers that take all they can get, in full size."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import strangers
from tests.benchmarks.strangers import Good, Serving

MIB = 2**20


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(strangers.made(tmp_path_factory.mktemp("strangers") / "coordinator")) as serving:
        with Good(serving) as good:
            good.call()
        yield serving
    assert "Traceback" not in serving.logged()


@pytest.mark.slow
@pytest.mark.parametrize("address", [strangers.STRANGER, "127.0.0.1"])
def test_a_thousand_unread_downloads_cost_little_memory_and_nobody_a_call(serving, address) -> None:
    before = serving.rss
    with strangers.strangers(strangers.unread, serving.ports[0], address), Good(serving) as good:
        for _ in range(100):
            good.call()
        assert serving.rss - before < 256 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("address", [strangers.STRANGER, "127.0.0.1"])
def test_over_a_thousand_idle_connections_a_port_cost_nobody_a_call(serving, address) -> None:
    before = serving.rss
    with strangers.strangers(strangers.idle, serving.ports, address), Good(serving) as good:
        for _ in range(100):
            good.call()
        with strangers.secured(serving.ports[1], "127.0.0.1") as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert serving.rss - before < 256 * MIB
        files = Path(f"/proc/{serving.process.pid}/fd")
        until = time.monotonic() + 40
        while len(list(files.iterdir())) > 200:
            assert time.monotonic() < until, "idle connections are still open"
            good.call()
            time.sleep(0.5)
