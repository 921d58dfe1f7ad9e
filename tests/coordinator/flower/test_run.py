"""A process that stood still longer than Flower waits: the run is renewed, and nothing is called an error."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.flower.federation import Federation
from coordinator.flower.run import LEASE_S

ROOT = Path(__file__).parents[3]


def age(federation: Federation, seconds: float) -> None:
    """Let the run's last heartbeat be so long ago, here and in Flower's own database."""
    federation._run._renewed -= seconds
    with sqlite3.connect(federation._settings.database, timeout=10) as database:
        database.execute("UPDATE task SET active_until = datetime(active_until, ?)", [f"-{seconds} seconds"])
    database.close()


def test_a_run_that_flower_gave_up_is_renewed_and_no_error_is_logged(link_settings, nodes, caplog):
    with Federation(link_settings) as federation:
        nodes.enrol(federation, "patient")
        nodes.start(federation, "patient", lambda request: request)
        assert federation.exchange({"patient": b"1"}, deadline_s=20)["patient"].reply == b"1"
        before = federation._run
        age(federation, LEASE_S + 10)
        assert before.lapsed
        before._beat()
        assert federation.exchange({"patient": b"2"}, deadline_s=20)["patient"].reply == b"2"
        assert federation._run is not before
        assert not federation._run.lapsed
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_node_that_signs_off_twice_is_no_error_of_the_server(link_settings, nodes, caplog):
    from client.daemon import node as own_node
    from client.daemon.link import Link

    with Federation(link_settings) as federation:
        nodes.enrol(federation, "leaving")
        link = Link(federation.address, nodes.ca_pem, nodes.keys["leaving"])
        with own_node.Fleet(link) as fleet:
            with own_node.signed_on(fleet, held := []) as node:
                pass
            assert held == []
            own_node.sign_off(fleet, [node.node_id])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


PROCESS = """
import sys, threading
from pathlib import Path
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from client.daemon.polling import serve
from client.daemon.link import Link
from coordinator.flower.federation import Federation
from coordinator.network.https_server import LinkSettings
from transfer.terminal.console import log_to_stderr
log_to_stderr("info")
pki, database = Path(sys.argv[1]), Path(sys.argv[2])
key, stop = ec.generate_private_key(ec.SECP384R1()), threading.Event()
pem = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
settings = LinkSettings("127.0.0.1", 0, pki / "server.pem", pki / "server.key", pki / "ca.pem", database)
with Federation(settings) as federation:
    federation.register(pem, "one")
    link = Link(federation.address, (pki / "ca.pem").read_bytes(), key)
    node = threading.Thread(target=serve, args=(link, lambda request: request, stop))
    node.start()
    for request in (b"1", b"2"):
        print(federation.exchange({"one": request}, deadline_s=60)["one"].reply, flush=True)
        if request == b"1":
            sys.stdin.readline()
    stop.set()
    node.join()
"""


@pytest.mark.slow
def test_a_frozen_process_thaws_without_an_error(pki, tmp_path):
    command = [sys.executable, "-c", PROCESS, str(pki), str(tmp_path / "flower.db")]
    log = tmp_path / "log"
    with log.open("w") as err:
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert started.stdout.readline() == "b'1'\n"
    started.send_signal(signal.SIGSTOP)
    time.sleep(LEASE_S + 12)
    started.send_signal(signal.SIGCONT)
    time.sleep(25)  # a heartbeat at least
    out, _ = started.communicate("\n", timeout=90)
    assert (started.returncode, out) == (0, "b'2'\n"), log.read_text()
    assert "ERROR" not in log.read_text()
    assert "Flower gave its run up; a new one asks again" in log.read_text()
