"""What tests of this room share."""

import math
import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client.home import custody
from client.home import settings as config
from client.home.directory import make
from client.home.settings import ClientConfig
from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from transfer.files import atomic as files
from transfer.privacy import Budget, Spend

FREE = Spend(0, 1.0, 1)
UNLIMITED = Budget(math.inf, 1e-6)
ROUNDS = [f"campaigns/planted-{number}/rounds/1" for number in range(3)]
REPLIES = [os.urandom(32) for _ in ROUNDS]
DECLINED = Declined.of(ROUNDS[0], "policy", "planted reason")


class Home:
    """A client's directory, the secrets of its owner, and what is planted in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.old, self.new = directory.parent / "old", directory.parent / "new"

    @classmethod
    def made(cls, root: Path, encrypted: bool = False) -> "Home":
        home = cls(root / "client")
        for secret in (home.old, home.new):
            files.write_new(secret, os.urandom(32))
        (root / "train.jsonl").write_text('{"text": "fine", "label": 0}\n')
        values = {
            ("client", "name"): "hospital-a",
            ("client", "secret"): str(home.old) if encrypted else None,
            ("data", "path"): str(root / "train.jsonl"),
            ("policy", "max_epsilon"): 8.0,
        }
        make(home.directory, values)
        return home

    def settings(self, secret: Path | None) -> ClientConfig:
        """The settings, with that secret in them."""
        read = config.read(self.directory)
        return read.model_copy(update={"client": read.client.model_copy(update={"secret": secret})})

    def place(self, secret: Path | None):
        return custody.load(self.settings(secret)).ledger

    def fill(self, secret: Path | None, numbers: range) -> None:
        held = custody.load(self.settings(secret))
        held.agreements.add("planted-campaign", "hash")
        with Ledger.open(held.ledger) as ledger:
            data_set = ledger.data_set([ledger.fingerprint("record")])
            for number in numbers:
                ledger.reserve(data_set, ROUNDS[number], FREE, UNLIMITED)
                ledger.store_reply(ROUNDS[number], REPLIES[number])
            ledger.decline(DECLINED)

    def contents(self, secret: Path | None) -> tuple[object, ...]:
        """All there is to know, if it can be read with that secret."""
        held = custody.load(self.settings(secret))
        with Ledger.open(held.ledger) as ledger:
            ledger.verify()
            kept = [ledger.reply(name) for name in ROUNDS]
            told = ledger.entries(), ledger.declines(), kept, held.agreements.read()
            return held.keys.key_id, held.keys.node.private_numbers(), *told

    def shown(self, secret: Path | None) -> set[str]:
        """What of the planted stands in some file as it is."""
        held = custody.load(self.settings(secret))
        with Ledger.open(held.ledger) as ledger:
            fingerprint_key = ledger._file.key
        planted = {
            "round": ROUNDS[0].encode(),
            "reply": REPLIES[0],
            "kind": b'"kind":"spend"',
            "reason": b"planted reason",
            "campaign": b"planted-campaign",
            "fingerprint key": fingerprint_key,
            **{
                name: pem_line(key)
                for name, key in (("signing", held.keys.signing), ("node", held.keys.node))
            },
        }
        every = [path.read_bytes() for path in self.directory.rglob("*") if path.is_file()]
        assert every
        return {name for name, pattern in planted.items() if any(pattern in content for content in every)}


def pem_line(key) -> bytes:
    """A line of the PEM that holds bytes of the private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).splitlines()[1][24:]


def copy(home: Home, root: Path) -> Home:
    shutil.copytree(home.directory.parent, root, dirs_exist_ok=True)
    return Home(root / "client")
