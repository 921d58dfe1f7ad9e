"""What tests of this room share."""

import json
from pathlib import Path

import pytest

from client.commands.main import app
from client.home import custody
from client.home import settings as config
from client.ledger.ledger import Ledger
from client.rounds.release import DIGEST_BYTES
from transfer.privacy import Budget, Spend
from transfer.terminal import console

ROWS = '{"text": "the film was great", "label": "positive"}\n{"text": "a bad plot", "label": "negative"}\n'
TASK = """name = "reviews"
template = "{text} It was {answer}"
init_text = "A sentence about a review"
max_tokens = 64
[labels]
positive = ["great", "good"]
negative = ["terrible", "bad"]
"""


class Command:
    """`promptferry-client` in this process."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.capsys = directory, capsys
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        with pytest.raises(SystemExit) as caught:
            console.run(app, ["--dir", str(self.directory), *map(str, words)])
        captured = self.capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        assert isinstance(caught.value.code, int)
        return caught.value.code

    def json(self, *words: object) -> dict:
        self.status = self("--format", "json", *words)
        return json.loads(self.out)

    def ledger(self) -> Ledger:
        return Ledger.open(custody.load(config.read(self.directory)).ledger)

    def init(self, *words: object) -> int:
        data = self.directory.parent / "train.jsonl"
        given = "--name", "hospital-a", "--data", data, "--records", 100, "--epsilon", 8
        return self("init", self.directory, *given, *words)


def spend(ready: Command, each: Spend, rounds: int) -> None:
    with ready.ledger() as ledger:
        data_set = ledger.data_set([b"f" * 32])
        for index in range(1, rounds + 1):
            name = f"campaigns/a/rounds/{index}"
            ledger.reserve(data_set, name, each, Budget(100.0, 1e-4))
            ledger.store_reply(name, b"q" * DIGEST_BYTES + b"reply")
