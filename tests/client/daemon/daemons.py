"""What tests of this room share."""

import signal
import subprocess
import sys
import time

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.home import custody
from client.home.settings import ClientConfig
from client.ledger.ledger import Ledger
from client.vault.keys import load
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.round_wire import reply_from_bytes, request_to_bytes
from transfer.protocol.rounds import Reply, RoundRequest, Tuning
from transfer.protocol.signing import REPLY_TYPE, REQUEST_TYPE, sign
from transfer.protocol.wire import envelope_from_bytes, envelope_to_bytes


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


class Running:
    """`promptferry-client run` as a process of its own."""

    def __init__(self, client: ClientConfig, *options: str, stdin: int = subprocess.DEVNULL) -> None:
        script = "from client.commands.main import main; main()"
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


def spends(client: ClientConfig) -> list[Spend]:
    with Ledger.open(custody.load(client).ledger) as ledger:
        return [entry.spend for entry in ledger.entries() if entry.spend is not None]
