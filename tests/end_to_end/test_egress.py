"""What really leaves a data owner: the plaintext of every connection of a campaign, and every file it left."""

import asyncio
import json
import secrets
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomli_w

from deploy.processes import command, daemon, free_ports
from tests.promises import Measured
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CLIENTS = 3


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
    texts = ["The film was great.", "A terrible plot", "We liked the music", "Nobody liked the noise"]
    public = tmp_path / "public.jsonl"
    public.write_text(
        "".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n in range(20) for text in texts)
    )
    task = tmp_path / "task.toml"
    labels = {label.name: list(label.words) for label in tiny_task.labels}
    task.write_text(
        tomli_w.dumps(
            {"name": "reviews", "template": tiny_task.template, "init_text": tiny_task.init_text, "max_tokens": 64,
             "labels": labels}
        )
    )  # fmt: skip
    delivery, fleet, tapped = free_ports(3)
    coordinator = tmp_path / "coordinator"
    operator = ("promptferry-coordinator", "--dir", coordinator)
    command(
        "promptferry-coordinator", "init", coordinator, "--target", tiny_causal, "--port", delivery,
        "--fleet-port", fleet, "--threads", 1,
    )  # fmt: skip
    settings = coordinator / "coordinator.toml"
    head, mark, tail = settings.read_text().partition("[flower]")
    tail = tail.replace('public_address = ""', f'public_address = "127.0.0.1:{tapped}"', 1)
    settings.write_text(head + mark + tail)
    command(*operator, "proxy", "distil", "--layers", 1, "--text", public, "--name", "tiny", "--steps", 2)
    with ExitStack() as stack:
        stack.enter_context(daemon(*operator, "serve", log=tmp_path / "serve.log", ready="serving:"))
        tap = Tap(tapped, fleet, coordinator / "pki")
        stack.callback(tap.close)
        for number in range(CLIENTS):
            home = tmp_path / f"client-{number}"
            data = tmp_path / f"private-{number}.jsonl"
            rows = [{"text": f"{texts[n % 4]} {planted[n]}", "label": n % 2} for n in range(20)]
            data.write_text("".join(json.dumps(row) + "\n" for row in rows))
            command(
                "promptferry-client", "init", home, "--name", f"client-{number}", "--data", data, "--records", 20,
                "--epsilon", 8, "--task", "reviews", "--proxy", "*", "--threads", 1,
            )  # fmt: skip
            invitation = tmp_path / f"invitation-{number}.toml"
            command(*operator, "client", "invite", f"client-{number}", "--out", invitation)
            command("promptferry-client", "--dir", home, "enrol", invitation)
            log = home / "daemon.log"
            stack.enter_context(
                daemon("promptferry-client", "--dir", home, "run", log=log, ready="connected")
            )
        plan = {
            "name": "egress", "task": str(task), "proxy": "tiny", "public_text": str(public), "rounds": 2,
            "tuning": {"epsilon": 8.0, "steps": 2, "sample_rate": 0.5}, "transfer": {"steps": 2},
            "publish": {"prompt": "reviews", "require_improvement": False},
        }  # fmt: skip
        (tmp_path / "plan.toml").write_text(tomli_w.dumps(plan))
        command(*operator, "round", "launch", tmp_path / "plan.toml", "--wait")
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
