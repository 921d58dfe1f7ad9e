"""The serving process itself: ports, TLS and signals, with data owners on Flower's transport."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.daemon.link import Link
from client.daemon.polling import serve
from client.remote.coordinator import Remote
from client.vault.keys import Keys
from coordinator.home import certificates
from coordinator.home import renewal as expiry
from coordinator.home.pki import PkiPaths
from coordinator.home.settings import read
from coordinator.store.records import CampaignState, RoundState
from coordinator.store.store import Store
from transfer.errors import AuthenticationError
from transfer.privacy import Spend, epsilon

SERVE = "from coordinator.commands.main import main; main()"
READY = re.compile(r"serving: delivery (127\.0\.0\.1:\d+), fleet (127\.0\.0\.1:\d+)\n")


@dataclass
class Process:
    """`promptferry-coordinator serve` in a process of its own."""

    directory: Path
    delivery: str = ""
    fleet: str = ""

    def __enter__(self):
        words = [sys.executable, "-c", SERVE, "--dir", str(self.directory), "serve"]
        self.log = (self.directory / "serve.log").open("ab")
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        ready = READY.fullmatch(self.process.stdout.readline())
        assert ready, (self.directory / "serve.log").read_text()
        self.delivery, self.fleet = ready.groups()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def end(self, number):
        """Send a signal and return exit status and seconds."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - started


@dataclass
class Node:
    """A data owner's daemon in a thread: keys, enrolment over gRPC, answers over Flower's transport."""

    name: str
    keys: Keys
    stop: threading.Event = field(default_factory=threading.Event)
    raised: Exception | None = None

    def enrol(self, command, tmp_path, process):
        out = tmp_path / f"{self.name}.toml"
        assert command("client", "invite", self.name, "--out", out) == 0, command.err
        token = re.search('token = "(.*)"', out.read_text())[1]
        with Remote(process.delivery, (command.directory / "pki/ca.pem").read_bytes()) as remote:
            assert remote.enrol(self.name, token, self.keys) == process.fleet

    def start(self, command, process, answer):
        link = Link(
            process.fleet, (command.directory / "pki/ca.pem").read_bytes(), self.keys.node, poll_s=0.1
        )
        self.thread = threading.Thread(target=self._serve, args=(link, answer), name=self.name)
        self.thread.start()

    def _serve(self, link, answer):
        try:
            serve(link, answer, self.stop)
        except AuthenticationError as error:
            self.raised = error


@pytest.fixture
def nodes(make_owner):
    made = {}
    for rounds in (
        1,
        2,
    ):  # filters against warnings are no thread's own: computed here once, cached from then on
        epsilon([Spend(2.0, 1.0, 5)] * rounds, 1e-7)
    for index, name in enumerate(("ada", "ben", "cleo")):
        owner = make_owner(name, index)
        made[name] = Node(name, Keys(owner.key, ec.generate_private_key(ec.SECP384R1()))), owner
    yield made
    for node, _ in made.values():
        node.stop.set()
    for node, _ in made.values():
        if hasattr(node, "thread"):
            node.thread.join()


def free_ports(command):
    path = command.directory / "coordinator.toml"
    address = 'public_address = "127.0.0.1:29292"'
    text = re.sub(r"port = \d+", "port = 0", path.read_text())
    head, tail = text.split("[delivery]")
    path.write_text(head + "[delivery]" + tail.replace('public_address = ""', address))
    return command


@pytest.mark.parametrize("section", ["flower", "delivery"])
def test_a_taken_port_is_one_line_that_names_it(command, section):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = free_ports(command).directory / "coordinator.toml"
        before, after = path.read_text().split(f"[{section}]")
        path.write_text(before + f"[{section}]" + after.replace("port = 0", f"port = {port}", 1))
        assert command("serve") == 1
    (line,) = [line for line in command.err.splitlines() if line.startswith("error: ")]
    assert str(port) in line
    assert f"[{section}]" in line
    assert command.out == ""


def certified_for(command, monkeypatch, life):
    """Give the coordinator a server certificate for so long."""
    monkeypatch.setattr(certificates, "SERVER_LIFE", life)
    expiry.renew(PkiPaths.under(command.directory))
    return command


def test_an_expired_certificate_ends_serve_at_once_in_one_line(command, monkeypatch):
    certified_for(command, monkeypatch, timedelta(minutes=-1))
    assert command("serve") == 2
    (line,) = command.err.splitlines()
    assert re.fullmatch(
        r"error: .*server\.pem: the server certificate expired on \S+: "
        r"`promptferry-coordinator --dir \S+ renew` makes .*",
        line,
    )
    assert not (command.directory / "flower.db").exists()
    assert line.removeprefix("error: ") in {item["detail"] for item in command.json("doctor")}
    monkeypatch.undo()
    assert command("renew") == 0
    assert command.out.startswith("valid until ")
    assert {item["check"]: item["healthy"] for item in command.json("doctor")}["certificate"]


@pytest.mark.slow
def test_a_campaign_runs_over_the_real_process_from_enrolment_to_publication(
    command, plan_file, nodes, tmp_path, monkeypatch
):
    publisher = public_key(free_ports(certified_for(command, monkeypatch, timedelta(days=5, hours=1))))
    with Process(command.directory) as process:
        found = {item["check"]: item for item in command.json("doctor")}
        assert found["serving"]["healthy"]
        logged = (command.directory / "serve.log").read_text()
        (line,) = [line for line in logged.splitlines() if "expires in 5 days" in line]
        renew = f"`promptferry-coordinator --dir {command.directory} renew`"
        assert line.endswith(f"{renew} makes a new one; then start `serve` again")
        assert not found["certificate"]["healthy"]
        assert "expires in 5 days" in found["certificate"]["detail"]
        assert (command.directory / "flower.db").stat().st_mode & 0o777 == 0o600
        for node, owner in nodes.values():
            node.enrol(command, tmp_path, process)
            node.start(command, process, lambda request, owner=owner: owner.answer(request, publisher))
        assert command("round", "launch", plan_file, "--wait", "--timeout-s", "120") == 0, command.err
        assert "first: round 1: ada: released" in command.err
        assert "prompts/tiny-prompt/versions/1 is published" in command.out
        with Remote(process.delivery, (command.directory / "pki/ca.pem").read_bytes()) as remote:
            assert remote.prompt_version("tiny-prompt").version == 1
        assert command("client", "revoke", "ada") == 0
        nodes["ada"][0].thread.join(30)
        assert isinstance(nodes["ada"][0].raised, AuthenticationError)
        status, seconds = process.end(signal.SIGTERM)
    assert status == 0
    assert seconds < 30


@pytest.mark.slow
def test_a_process_killed_in_mid_round_goes_on_after_a_restart_and_asks_nobody_twice(
    command, plan_file, nodes, tmp_path
):
    publisher = public_key(command)
    late = threading.Event()
    with Process(command.directory) as process:
        for name, (node, owner) in nodes.items():
            node.enrol(command, tmp_path, process)

            def answer(request, owner=owner, name=name):
                if name == "cleo":
                    late.wait(60)
                return owner.answer(request, publisher)

            node.start(command, process, answer)
        assert command("round", "launch", plan_file) == 0
        store = Store.open(read(command.directory).store.url)
        until(lambda: len(replies(store)) == 2)
        process.end(signal.SIGKILL)
    late.set()
    with Process(command.directory):
        assert command("round", "watch", "first", "--timeout-s", "120") == 0, command.err
    assert [item.state for item in store.rounds("first")] == [RoundState.CLOSED] * 2
    assert store.campaign("first").state is CampaignState.PUBLISHED
    assert [len(nodes[name][1].requests) for name in ("ada", "ben")] == [2, 2]
    store.close()


def public_key(command) -> Ed25519PublicKey:
    return serialization.load_pem_public_key((command.directory / "publisher.pub").read_bytes())


def replies(store):
    rounds = store.rounds("first")
    return store.replies("first", 1) if rounds else []


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
