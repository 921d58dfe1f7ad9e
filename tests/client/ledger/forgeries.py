"""What tests of this room share."""

import hashlib
import math
import shutil
import sqlite3
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.head_file import HeadFile
from client.ledger.ledger import Ledger
from tests.client.ledgers import KEY, at
from transfer.privacy import Budget, Spend

FREE = Spend(0, 1.0, 1)
UNLIMITED = Budget(math.inf, 1e-6)
NAME = "ledger.sqlite"


def fill(ledger: Ledger, rounds: range) -> None:
    data_set = ledger.data_set(ledger.fingerprint(f"record {n}") for n in range(20))
    for number in rounds:
        ledger.reserve(data_set, f"r{number}", FREE, UNLIMITED)
        ledger.store_reply(f"r{number}", b"reply %d" % number * 20)


def copy(original: Path, directory: Path) -> Path:
    for file in original.parent.glob(original.name + "*"):
        shutil.copy2(file, directory / file.name)
    return directory / original.name


def edit(path: Path, *statements: str, parameters: tuple[object, ...] = ()) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement, parameters)
    database.commit()
    database.close()


def head_file(path: Path, signer: Ed25519PrivateKey = KEY) -> HeadFile:
    """The head file of a ledger, as somebody with that key would write it."""
    database = sqlite3.connect(path)
    [(key,)] = database.execute("SELECT key FROM identity")
    database.close()
    return HeadFile(at(path).head, hashlib.sha256(b"promptferry ledger" + key).hexdigest(), signer)


def flipped(path: Path) -> None:
    newest = head_file(path).heads()[-1]
    last = "1" if newest.signature[-1] == "0" else "0"
    at(path).head.write_text(f"\n23 {newest.digest} {newest.signature[:-1]}{last}\n")
