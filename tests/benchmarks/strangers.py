"""What a good client notices, and a coordinator holds, while strangers keep what they can get.

python -m tests.benchmarks.strangers [--out RESULT.json]

A real `promptferry-coordinator serve`, started with 1 024 open files allowed, bears 1 000 downloads of 16 MiB that
nobody reads, and then 1 100 idle connections on each of its two ports. Before, meanwhile and after, a good client
asks for a prompt version and downloads a small file. Strangers are a process of their own and speak just enough
HTTP/2 to take nothing: every other connection grants no window at all, the rest all there is without ever reading.
"""

import argparse
import json
import multiprocessing
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transformers import LlamaConfig, LlamaForCausalLM

from coordinator.home.settings import read
from coordinator.store.store import Store
from promptferry.v1 import service_pb2, service_pb2_grpc
from tests.benchmarks.ledger import p50_and_p99_ms
from tests.families.tokenizers import tokenizer_of
from transfer.files.atomic import FileRef
from transfer.protocol.signing import STATEMENT_TYPE, sign

LARGE, SMALL = 16 * 2**20, 60 * 2**10
DOWNLOADS, CALLS_EACH, IDLE = 1000, 50, 1100
GOOD_CALLS, TURNS = 300, 4
STRANGER = "127.0.0.2"
SERVE = (
    "ulimit -Sn 1024; "
    "exec {python} -c 'from coordinator.commands.main import main; main()' --dir {directory} serve"
)
DOWNLOAD = b"/promptferry.v1.PromptService/DownloadPromptFile"
GET = b"/promptferry.v1.PromptService/GetPromptVersion"


@dataclass
class Serving:
    """`promptferry-coordinator serve` in a process of its own, with one prompt of a large and a small file."""

    directory: Path
    ports: tuple[int, int] = (0, 0)
    log: str = field(default="serve.log")

    def __enter__(self) -> "Serving":
        command = SERVE.format(python=sys.executable, directory=self.directory)
        with (self.directory / self.log).open("ab") as log:
            self.process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        ready = self.process.stdout.readline().decode()
        assert ready.startswith("serving: "), (self.directory / self.log).read_text()
        delivery, fleet = (int(part.rpartition(":")[2]) for part in ready.split(", "))
        self.ports = delivery, fleet
        self.ca_pem = (self.directory / "pki/ca.pem").read_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def rss(self) -> int:
        """Bytes of memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def logged(self) -> str:
        """What it wrote to stderr."""
        return (self.directory / self.log).read_text()


def made(directory: Path) -> Path:
    """A coordinator's directory on free ports, with a tiny target, whose store has the prompt `big`."""
    init = "from coordinator.commands.main import main; main()"
    words = [
        "init",
        str(directory),
        "--target",
        str(_target(directory.with_name("target"))),
        "--port",
        "0",
        "--fleet-port",
        "0",
    ]
    words += ["--public-host", "127.0.0.1"]
    subprocess.run([sys.executable, "-c", init, *words], check=True, stdout=subprocess.DEVNULL)
    store = Store.open(read(directory).store.url)
    statement = sign(b"{}", STATEMENT_TYPE, Ed25519PrivateKey.generate())
    store.publish("big", lambda _version: (statement, {"large": bytes(LARGE), "small": bytes(SMALL)}))
    store.close()
    return directory


def _target(place: Path) -> Path:
    """A tiny random model: `init` and `serve` check the one they are given."""
    tokenizer = tokenizer_of("causal")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def begun(stream: int, path: bytes) -> bytes:
    """Frames that begin a call."""
    block = b"\x83\x87\x04" + bytes([len(path)]) + path + b"\x01\x01x"  # POST, https, path, authority
    block += _header(b"te", b"trailers") + _header(b"content-type", b"application/grpc")
    return _frame(1, 4, stream, block)


def asked(stream: int, path: bytes, message: bytes) -> bytes:
    """Frames of a whole unary request."""
    return begun(stream, path) + _frame(0, 1, stream, b"\0" + struct.pack(">I", len(message)) + message)


def greeting(window: int) -> bytes:
    """What a client says first, granting `window` bytes a stream and as many in all."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, struct.pack(">HI", 4, window))
    return preface + (_frame(8, 0, 0, struct.pack(">I", window - 65_535)) if window > 65_535 else b"")


def secured(port: int, source: str) -> ssl.SSLSocket:
    """A TLS connection from an address of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20, (source, 0)))


def unread(
    port: int, source: str, downloads: int = DOWNLOADS, each: int = CALLS_EACH
) -> Iterator[socket.socket]:
    """Connections that begin downloads of the large file and read nothing."""
    request = service_pb2.DownloadRequest(name="prompts/big/versions/1", path="large").SerializeToString()
    for number in range(downloads // each):
        connection = secured(port, source)
        window = 0 if number % 2 else 2**31 - 1
        calls = b"".join(asked(2 * call + 1, DOWNLOAD, request) for call in range(each))
        connection.sendall(greeting(window) + calls)
        yield connection


def idle(ports: tuple[int, ...], source: str, number: int = IDLE) -> Iterator[socket.socket]:
    """Connections to every port that say nothing at all."""
    for _ in range(number):
        for port in ports:
            yield socket.create_connection(("127.0.0.1", port), 20, (source, 0))


def _keep(
    attack: Callable[..., Iterator[socket.socket]], arguments: tuple[object, ...], end: Connection
) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connection) for connection in attack(*arguments)]
        end.send(len(held))
        with suppress(EOFError):  # whoever started us has seen enough
            end.recv()


@contextmanager
def strangers(attack: Callable[..., Iterator[socket.socket]], *arguments: object) -> Iterator[int]:
    """A process that holds an attack's connections; how many were made."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_keep, args=(attack, arguments, theirs))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.terminate()
        process.join()


class Good:
    """A good client on one connection: each call is a version and the whole of its small file."""

    def __init__(self, serving: Serving) -> None:
        credentials = grpc.ssl_channel_credentials(serving.ca_pem)
        self._channel = grpc.secure_channel(f"127.0.0.1:{serving.ports[0]}", credentials)
        self._prompts = service_pb2_grpc.PromptServiceStub(self._channel)

    def __enter__(self) -> "Good":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self) -> float:
        """Seconds of one call; raises if it fails."""
        started = time.perf_counter()
        name = "prompts/big/versions/1"
        self._prompts.GetPromptVersion(service_pb2.GetPromptVersionRequest(name=name), timeout=20)
        request = service_pb2.DownloadRequest(name=name, path="small")
        parts = [part.chunk for part in self._prompts.DownloadPromptFile(request, timeout=20)]
        assert FileRef.of_bytes("small", b"".join(parts)) == FileRef.of_bytes("small", bytes(SMALL))
        return time.perf_counter() - started


def compared(
    serving: Serving, attack: Callable[..., Iterator[socket.socket]], *arguments: object
) -> dict[str, float]:
    """What a good client and the process's memory say in turns without and with an attack."""
    quiet: list[float] = []
    busy: list[float] = []
    growth, fresh = 0, []
    with Good(serving) as good:
        for _ in range(GOOD_CALLS):
            good.call()  # warm
        for _ in range(TURNS):
            quiet += [good.call() for _ in range(GOOD_CALLS)]
            before = serving.rss
            with strangers(attack, *arguments):
                time.sleep(1)
                busy += [good.call() for _ in range(GOOD_CALLS)]
                growth = max(growth, serving.rss - before)
                with Good(serving) as new:
                    fresh.append(new.call())
            time.sleep(1)
    result = {
        "memory_growth_mib": growth / 2**20,
        "good_calls": len(busy),
        "slowest_new_client_ms": max(fresh) * 1e3,
    }
    for name, seconds in (("quiet", quiet), ("attacked", busy)):
        result[f"{name}_p50_ms"], result[f"{name}_p99_ms"] = p50_and_p99_ms(seconds)
    result["p99_ratio"] = result["attacked_p99_ms"] / result["quiet_p99_ms"]
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as directory:
        made(Path(directory) / "coordinator")
        result = {}
        for address, whose in ((STRANGER, "another address"), ("127.0.0.1", "the same address")):
            with Serving(Path(directory) / "coordinator") as serving:
                delivery, ports = serving.ports[0], serving.ports
                unread_figures = compared(serving, unread, delivery, address)
                result[f"{DOWNLOADS} unread downloads from {whose}"] = unread_figures
                result[f"{IDLE} idle connections a port from {whose}"] = compared(
                    serving, idle, ports, address
                )
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
