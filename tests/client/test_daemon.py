import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client import custody, daemon, enrolment
from client.config import ClientConfig, read
from client.directory import make
from client.keys import load
from client.ledger import Ledger
from client.lock import locked
from coordinator import pki
from coordinator.pki import PkiPaths
from transfer.errors import AuthenticationError, ConfigError, DataError, LedgerError, UnavailableError
from transfer.files import write_new
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.roster import Roster
from transfer.round_wire import reply_from_bytes, request_to_bytes
from transfer.rounds import Decline, Refusal, Release, Reply, RoundRequest, Tuning
from transfer.signing import REPLY_TYPE, REQUEST_TYPE, sign
from transfer.wire import envelope_from_bytes, envelope_to_bytes

LONG = Tuning(Spend(1.0, 0.5, 10_000_000), 0.5, 0.1)


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


class Asker:
    """The coordinator's side of one client's rounds."""

    def __init__(self, site, task, client: ClientConfig) -> None:
        self.site, self.task, self.name = site, task, client.client.name
        self.key: Ed25519PublicKey = load(client.keys_directory).signing.public_key()

    def sent(self, index: int = 1, tuning: Tuning | None = None) -> bytes:
        request = RoundRequest(
            round=f"campaigns/{self.name}/rounds/{index}",
            rounds=9,
            client=self.name,
            nonce=b"n" * 16,
            task=self.task,
            tuning=tuning or Tuning(Spend(1.0, 0.5, 2), 0.5, 0.1),
            prompt=SoftPrompt(torch.zeros(3, 32), self.site.proxy),
            cohort=3,
            roster=Roster.of([self.key.public_bytes_raw(), b"a" * 32, b"b" * 32]),
        )
        envelope = sign(request_to_bytes(request), REQUEST_TYPE, self.site.publisher)
        return envelope_to_bytes(envelope)

    def ask(self, *arguments: object) -> bytes:
        sent = {self.name: self.sent(*arguments)}
        outcome = self.site.federation.exchange(sent, deadline_s=120)[self.name]
        assert outcome.reply is not None, outcome.error
        return outcome.reply

    def read(self, reply: bytes) -> Reply:
        return reply_from_bytes(envelope_from_bytes(reply).verify(self.key, REPLY_TYPE))

    def reply(self, *arguments: object) -> Reply:
        return self.read(self.ask(*arguments))


@pytest.fixture
def asker(site, tiny_task, client: ClientConfig) -> Asker:
    return Asker(site, tiny_task, client)


class Running:
    """`promptferry-client run` as a process of its own."""

    def __init__(self, client: ClientConfig, *options: str, stdin: int = subprocess.DEVNULL) -> None:
        script = "from client.cli import main; main()"
        words = [sys.executable, "-c", script, "--dir", str(client.client.directory), "run", *options]
        self.log = client.client.directory.parent / "daemon.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdin=stdin, stdout=log, stderr=log)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def running(client: ClientConfig) -> Iterator[Running]:
    started = Running(client)
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGKILL)


def spends(client: ClientConfig) -> list[Spend]:
    with Ledger.open(custody.load(client).ledger) as ledger:
        return [entry.spend for entry in ledger.entries() if entry.spend is not None]


def test_a_daemon_fetches_the_proxy_answers_rounds_and_leaves_no_private_text(
    client: ClientConfig, asker: Asker, running: Running, planted: list[str]
) -> None:
    first = asker.ask()
    assert asker.ask() == first
    assert isinstance(asker.reply(), Release)
    assert isinstance(asker.reply(2), Release)
    assert (client.proxies_directory / "tiny" / "config.json").is_file()
    started = time.monotonic()
    assert running.end(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    log = running.log.read_text()
    assert log.count("fetching proxy tiny") == 1
    assert "ε is now" in log
    assert log.endswith("INFO client.daemon: stopped\n")
    assert len(spends(client)) == 2
    root = client.client.directory.parent
    private = client.data.path
    for path in [path for path in root.rglob("*") if path.is_file() and path != private]:
        content = path.read_bytes()
        assert not [string for string in planted if string.encode() in content], path
    for string in planted:
        assert string.encode() not in first


def test_a_daemon_answers_rounds_from_an_encrypted_directory(
    client: ClientConfig, asker: Asker, tmp_path: Path
) -> None:
    write_new(tmp_path / "secret", secrets.token_bytes(32))
    custody.reseal(client, tmp_path / "secret")
    settings = client.client.directory / "client.toml"
    settings.write_text(settings.read_text().replace("[client]\n", '[client]\nsecret = "../secret"\n'))
    encrypted, answers = read(client.client.directory), []

    def ask_twice_and_stop() -> None:
        try:
            answers.extend([asker.ask(), asker.ask()])
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask_twice_and_stop)
    asking.start()
    daemon.run(encrypted)
    asking.join()
    first, again = answers
    assert first == again
    assert isinstance(asker.read(first), Release)
    assert len(spends(encrypted)) == 1
    for path in client.client.directory.rglob("*"):
        assert not path.is_file() or first not in path.read_bytes(), path


@pytest.mark.slow  # half a minute until Flower believes that the node is gone
def test_a_daemon_killed_in_mid_round_comes_back_and_never_pays_or_tunes_twice(
    site, client: ClientConfig, asker: Asker, running: Running
) -> None:
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(asker.reply(1, LONG)))
    asking.start()
    running.wait_for("tuning for reviews")
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert spends(client) == [LONG.spend]
    again = Running(client)
    try:
        asking.join()
        [reply] = replies
        assert isinstance(reply, Decline)
        assert reply.refusal is Refusal.SPENT
        assert spends(client) == [LONG.spend]
        assert isinstance(asker.reply(2), Release)
    finally:
        again.end(signal.SIGTERM)


def test_a_daemon_told_to_stop_in_mid_round_does_so_within_ten_seconds(
    client: ClientConfig, asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stopped: list[float] = []

    def stop_when_tuning() -> None:
        while "tuning for reviews" not in caplog.text:
            time.sleep(0.02)
        stopped.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    sent = {asker.name: asker.sent(1, LONG)}
    asking = threading.Thread(
        target=asker.site.federation.exchange,
        args=(sent,),
        # Flower drops the answer of a node that signs off at once: nobody waits for it here
        kwargs={"deadline_s": 60, "quorum": lambda _: bool(stopped)},
    )
    threads = asking, threading.Thread(target=stop_when_tuning)
    for thread in threads:
        thread.start()
    daemon.run(client)
    assert time.monotonic() - stopped[0] < 10
    for thread in threads:
        thread.join()
    assert "abandoned, the daemon is stopping" in caplog.text
    assert spends(client) == [LONG.spend]
    with Ledger.open(custody.load(client).ledger) as ledger:  # so that it may be asked again
        assert [entry.kind.value for entry in ledger.entries()][-2:] == ["spend", "stop"]


def test_a_second_daemon_in_the_same_directory_names_the_first(client: ClientConfig) -> None:
    with (
        locked(client.lock_file),
        pytest.raises(
            UnavailableError, match=rf"in use by another promptferry-client \(process {os.getpid()}\)"
        ),
    ):
        daemon.run(client)
    with locked(client.lock_file):
        pass


def test_the_lock_of_a_killed_process_is_free(client: ClientConfig) -> None:
    script = (
        "import sys, time; from pathlib import Path; from client.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", script, str(client.lock_file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UnavailableError, match=f"process {holder.pid}"), locked(client.lock_file):
            pass
        holder.kill()
        holder.wait()
    with locked(client.lock_file):
        pass


def test_a_server_with_a_certificate_of_another_ca_is_refused(client: ClientConfig, tmp_path: Path) -> None:
    paths = PkiPaths.under(tmp_path / "other")
    pki.create(paths)
    pinned = {**enrolment.read(client).model_dump(), "ca": paths.ca.read_text()}
    client.enrolment_file.write_text(tomli_w.dumps(pinned))
    with pytest.raises(UnavailableError, match="not signed by the pinned CA"):
        daemon.run(client)


def test_a_client_the_coordinator_shut_out_is_told(site, client: ClientConfig) -> None:
    site.federation.unregister(client.client.name)
    with pytest.raises(AuthenticationError, match="is not registered"):
        daemon.run(client)


def test_a_daemon_without_data_enrolment_or_ledger_does_not_start(client: ClientConfig) -> None:
    private, kept = client.data.path, client.data.path.read_bytes()
    private.unlink()
    with pytest.raises(
        DataError, match=r"train.jsonl: the private data of \[data\] path is not a readable file"
    ):
        daemon.run(client)
    private.write_bytes(kept)
    ledger = client.ledger_file.read_bytes()
    client.ledger_file.unlink()
    with pytest.raises(LedgerError, match="no ledger at"):
        daemon.run(client)
    client.ledger_file.write_bytes(ledger)
    client.enrolment_file.unlink()
    with pytest.raises(ConfigError, match="this client is not enrolled"):
        daemon.run(client)


def test_a_daemon_outlives_a_coordinator_that_is_not_there_and_stops_on_ctrl_c(
    client: ClientConfig, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pinned = {**enrolment.read(client).model_dump(), "fleet": "127.0.0.1:9"}
    client.enrolment_file.write_text(tomli_w.dumps(pinned))
    caplog.set_level("INFO")
    before = signal.getsignal(signal.SIGINT)
    ending = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    ending.start()
    daemon.run(read(client.client.directory))
    assert "the coordinator at 127.0.0.1:9 cannot be reached" in caplog.text
    assert "SIGINT: stopping" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_an_owner_on_the_terminal_is_asked_once_before_anything_is_paid(
    client: ClientConfig, asker: Asker
) -> None:
    keyboard, terminal = os.openpty()
    running = Running(client, "--ask", stdin=terminal)
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(asker.reply()))
    try:
        asking.start()
        running.wait_for("Take part? [y/n]")
        assert spends(client) == []
        assert not client.proxies_directory.exists()
        os.write(keyboard, b"perhaps\n")
        running.wait_for("y or n?")
        os.write(keyboard, b"y\n")
        asking.join(60)
        assert isinstance(replies[0], Release)
        assert isinstance(asker.reply(2), Release)
        assert running.log.read_text().count("Take part?") == 1
    finally:
        assert running.end(signal.SIGTERM) == 0
        os.close(keyboard)
        os.close(terminal)


@pytest.mark.slow
def test_an_owner_who_says_no_declines_and_pays_nothing(client: ClientConfig, asker: Asker) -> None:
    keyboard, terminal = os.openpty()
    running = Running(client, "--ask", stdin=terminal)
    try:
        os.write(keyboard, b"n\n")
        reply = asker.reply()
        assert isinstance(reply, Decline)
        assert reply.refusal is Refusal.POLICY
        assert spends(client) == []
        with Ledger.open(custody.load(client).ledger) as ledger:
            [told] = [entry.declined for entry in ledger.declines()]
        assert (told.round_name, told.refusal) == (reply.round, "policy")
        assert told.why == f"you do not take part in campaign {asker.name}"
        assert "you do not take part in campaign" in running.log.read_text()
    finally:
        assert running.end(signal.SIGTERM) == 0
        os.close(keyboard)
        os.close(terminal)


@pytest.mark.slow
def test_a_daemon_that_is_to_ask_needs_a_terminal(client: ClientConfig) -> None:
    running = Running(client, "--ask")
    assert running.process.wait(60) == 2
    assert running.log.read_text().splitlines()[-1] == (  # a slow machine says before what takes long
        "error: --ask asks on the terminal, and there is none: start it in one, or leave out --ask"
    )
