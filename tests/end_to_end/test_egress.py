"""What really leaves a data owner: the plaintext of every connection of a campaign, and every file it left."""

import asyncio
import secrets
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes import free_ports
from tests.end_to_end.campaign import CLIENTS, TEXTS, Campaign
from tests.promises import Measured
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Tap:
    """A relay that ends TLS with the coordinator's own key, keeps what clients sent, and passes it on.

    One thread does it all: a TLS connection that one thread reads and another writes or closes can crash OpenSSL.
    """

    def __init__(self, port: int, upstream: int, pki: Path) -> None:
        self.sent = bytearray()
        self._upstream = upstream
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(pki / "server.pem", pki / "server.key")
        self._client = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._server)
        self._listener = asyncio.run_coroutine_threadsafe(listening, self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self._upstream, ssl=self._client)
        except OSError:
            near.close()
            return
        await asyncio.gather(self._pump(reader, far, self.sent), self._pump(answers, near, None))

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, copy: bytearray | None) -> None:
        try:
            while chunk := await source.read(65536):
                if copy is not None:
                    copy += chunk
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def _stop(self) -> None:
        self._listener.close()
        pumps = asyncio.all_tasks() - {asyncio.current_task()}
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.promise("egress")
def test_nothing_but_signed_prompts_leaves_a_data_owner(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path, measured: Measured
) -> None:
    planted = [secrets.token_hex(16) for _ in range(20)]
    campaign, [tapped] = Campaign(tmp_path, tiny_causal, tiny_task), free_ports(1)
    settings = campaign.coordinator / "coordinator.toml"
    head, mark, tail = settings.read_text().partition("[flower]")
    tail = tail.replace('public_address = ""', f'public_address = "127.0.0.1:{tapped}"', 1)
    settings.write_text(head + mark + tail)
    with ExitStack() as stack:
        tap = Tap(tapped, campaign.fleet, campaign.coordinator / "pki")
        stack.callback(tap.close)
        rows = [{"text": f"{TEXTS[n % 4]} {planted[n]}", "label": n % 2} for n in range(20)]
        campaign.start(stack, rows, "--records", 20)
        campaign.launch()
    sent = bytes(tap.sent)
    assert sent.count(b"application/vnd.promptferry.round-reply.v1+protobuf") >= 2 * CLIENTS, (
        "the tap saw the replies"
    )
    left = {
        path: path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and "private-" not in path.name
    }
    found = sum(content.count(secret.encode()) for secret in planted for content in (sent, *left.values()))
    measured(planted_strings_found=found, bytes_of_traffic=len(sent), files=len(left))
    assert any(path.name == "store.db" for path in left)
    for secret in planted:
        assert secret.encode() not in sent
        assert [path for path, content in left.items() if secret.encode() in content] == []
