import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tomli_w

from client.daemon import process as daemon
from client.home import custody, enrolment
from client.home.lock import locked
from client.home.settings import ClientConfig, read
from client.ledger.ledger import Ledger
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from tests.client.daemon.daemons import Asker, Running, spends
from transfer.errors import AuthenticationError, ConfigError, DataError, LedgerError, UnavailableError
from transfer.files.atomic import write_new
from transfer.privacy import Spend
from transfer.protocol.rounds import Decline, Refusal, Release, Reply, Tuning

LONG = Tuning(Spend(1.0, 0.5, 10_000_000), 0.5, 0.1)


@pytest.mark.slow
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
    assert log.endswith("INFO client.daemon.process: stopped\n")
    assert len(spends(client)) == 2
    root = client.client.directory.parent
    private = client.data.path
    for path in [path for path in root.rglob("*") if path.is_file() and path != private]:
        content = path.read_bytes()
        assert not [string for string in planted if string.encode() in content], path
    for string in planted:
        assert string.encode() not in first


@pytest.mark.slow
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


@pytest.mark.slow
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
        kwargs={"deadline_s": 60, "is_over": lambda _: bool(stopped)},
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
        "import sys, time; from pathlib import Path; from client.home.lock import locked\n"
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
