"""The adapters in processes of their own: what they contact, and what a kill does."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from client.daemon.link import LEASE_S
from coordinator.rounds.fleet import Outcome

ROOT = Path(__file__).parents[3]


ONE_PROCESS = """
import sys, threading
seen = set()
def hook(event, args):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        seen.add((event, args[1][0] if isinstance(args[1], tuple) else args[1]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        seen.add((event, args[0]))
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        seen.add((event, str(args[0])))
sys.addaudithook(hook)
import psutil
from pathlib import Path
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from client.daemon.polling import serve
from client.daemon.link import LEASE_S, Link
from coordinator.flower.federation import Federation
from coordinator.network.https_server import LinkSettings
pki, database = Path(sys.argv[1]), Path(sys.argv[2])
key, stop = ec.generate_private_key(ec.SECP384R1()), threading.Event()
pem = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
settings = LinkSettings("127.0.0.1", 0, pki / "server.pem", pki / "server.key", pki / "ca.pem", database)
with Federation(settings) as federation:
    federation.register(pem, "one")
    link = Link(federation.address, (pki / "ca.pem").read_bytes(), key)
    node = threading.Thread(target=serve, args=(link, lambda request: request, stop))
    node.start()
    print(federation.exchange({"one": b"x"}, deadline_s=30)["one"].reply)
    sockets = psutil.Process().net_connections()
    listening = [tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN]
    print(listening == [("127.0.0.1", int(federation.address.rpartition(":")[2]))])
    stop.set()
    node.join()
print(sorted(seen, key=str))
"""


@pytest.mark.slow
def test_nothing_but_loopback_is_contacted_and_nothing_is_written_at_home(pki, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {
        "HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "1",
        "FLWR_INTERNAL_GRPC_FLEET_API": "1",
        "FLWR_INTERNAL_GRPC_CONTROL_API": "1",
        "HTTPS_PROXY": "http://192.0.2.1:3128",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("FLWR_HOME", None)
    command = [sys.executable, "-c", ONE_PROCESS, str(pki), str(tmp_path / "flower.db")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    reply, listens_once, seen = done.stdout.splitlines()
    assert reply == "b'x'"
    assert listens_once == "True"
    events = set(ast.literal_eval(seen))
    assert {event for event, _ in events} >= {"socket.bind", "socket.connect"}
    assert events <= {
        ("socket.bind", "127.0.0.1"),
        ("socket.bind", "::1"),  # a library tries whether this machine speaks IPv6
        ("socket.getaddrinfo", "127.0.0.1"),
        ("socket.connect", "127.0.0.1"),
    }
    assert list(home.iterdir()) == []
    assert done.stderr == ""


NODE = """
import sys, threading
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from client.daemon.polling import serve
from client.daemon.link import LEASE_S, Link
address, ca, key, mode = sys.argv[1:]
def answer(request):
    print("asked", flush=True)
    if mode == "hang":
        threading.Event().wait()
    return mode.encode()
link = Link(address, Path(ca).read_bytes(), load_pem_private_key(Path(key).read_bytes(), None))
serve(link, answer, threading.Event())
"""


@pytest.fixture
def spawn(federation, nodes, pki, tmp_path):
    """Start a node in a process of its own."""
    started: list[subprocess.Popen[str]] = []
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def start(name: str, mode: str) -> subprocess.Popen[str]:
        key = tmp_path / f"{name}.key"
        key.write_bytes(nodes.keys[name].private_bytes(*form))
        command = [sys.executable, "-c", NODE, federation.address, str(pki / "ca.pem"), str(key), mode]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_node_neither_stops_the_others_nor_the_deadline(federation, nodes, spawn):
    nodes.enrol(federation, "killed", "alive", "well")
    for name in ("alive", "well"):
        nodes.start(federation, name, lambda request: request)
    process = spawn("killed", "hang")
    nodes.await_online(federation, "killed", "alive", "well")
    threading.Thread(target=lambda: (process.stdout.readline(), process.kill())).start()
    started = time.monotonic()
    outcomes = federation.exchange(dict.fromkeys(("killed", "alive", "well"), b"x"), deadline_s=6)
    assert 5.9 < time.monotonic() - started < 9
    assert process.wait() == -signal.SIGKILL
    reply = Outcome(reply=b"x")
    assert outcomes == {"killed": Outcome(error="timeout"), "alive": reply, "well": reply}


@pytest.mark.slow
def test_a_killed_node_is_asked_again_when_it_is_back(federation, nodes, spawn):
    nodes.enrol(federation, "killed-twice", "alive-too")
    nodes.start(federation, "alive-too", lambda request: request)
    first = spawn("killed-twice", "hang")

    def kill_and_restart() -> None:
        first.stdout.readline()
        first.kill()
        spawn("killed-twice", "second")

    threading.Thread(target=kill_and_restart).start()
    requests = dict.fromkeys(("killed-twice", "alive-too"), b"x")
    outcomes = federation.exchange(requests, deadline_s=90)
    assert outcomes == {"killed-twice": Outcome(reply=b"second"), "alive-too": Outcome(reply=b"x")}


@pytest.mark.slow
def test_a_node_stays_online_while_it_answers_for_longer_than_its_lease(federation, nodes):
    calls: list[bytes] = []
    nodes.enrol(federation, "busy")
    nodes.start(
        federation, "busy", lambda request: calls.append(request) or time.sleep(LEASE_S + 5) or b"done"
    )
    assert federation.exchange({"busy": b"x"}, deadline_s=60)["busy"].reply == b"done"
    assert calls == [b"x"]
