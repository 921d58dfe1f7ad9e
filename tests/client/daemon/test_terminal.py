"""An owner is asked on the terminal."""

import os
import signal
import threading

import pytest

from client.home import custody
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from tests.client.daemon.daemons import Asker, Running, spends
from transfer.protocol.rounds import Decline, Refusal, Release, Reply


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
        "error: --ask needs a terminal, and there is none: start it in one, or leave out --ask"
    )
