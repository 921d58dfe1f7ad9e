"""What tests of this room share."""

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.home import enrolment
from client.home.directory import make
from client.home.settings import ClientConfig
from tests.client.daemon.daemons import Asker, Running


@pytest.fixture
def planted() -> list[str]:
    return [secrets.token_hex(16) for _ in range(20)]


@pytest.fixture
def client(site, tmp_path: Path, planted: list[str]) -> ClientConfig:
    """An enrolled client that allows everything, without a proxy yet."""
    name = f"client-{secrets.token_hex(4)}"
    data = tmp_path / "private" / "train.jsonl"
    data.parent.mkdir()
    rows = [{"text": f"patient {string} was fine", "label": "positive"} for string in planted]
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    values = {
        ("client", "name"): name,
        ("data", "path"): str(data),
        ("data", "declared_records"): 20,
        ("policy", "max_epsilon"): float("inf"),
        ("policy", "tasks"): ["reviews"],
        ("policy", "proxies"): [site.proxy.digest],
        ("daemon", "poll_s"): 0.05,
        ("daemon", "threads"): 1,
        ("daemon", "log_level"): "debug",
    }
    settings = make(tmp_path / "client", values)
    enrolment.enrol(settings, site.invite(name))
    return settings


@pytest.fixture
def asker(site, tiny_task, client: ClientConfig) -> Asker:
    return Asker(site, tiny_task, client)


@pytest.fixture
def running(client: ClientConfig) -> Iterator[Running]:
    started = Running(client)
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGKILL)
