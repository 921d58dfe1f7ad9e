"""A client's directory is sealed, and sealed anew, without a moment in which it is lost or something shows."""

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client import config, custody, keys, resealing, vault
from client.chain import connect
from client.config import ClientConfig
from client.directory import make
from client.entries import Declined
from client.ledger import Ledger
from client.lock import locked
from transfer import files
from transfer.errors import LedgerError, PromptferryError, UnavailableError, UsageError, VerificationError
from transfer.privacy import Budget, Spend

FREE = Spend(0, 1.0, 1)
UNLIMITED = Budget(math.inf, 1e-6)
ROUNDS = [f"campaigns/planted-{number}/rounds/1" for number in range(3)]
REPLIES = [os.urandom(32) for _ in ROUNDS]
DECLINED = Declined.of(ROUNDS[0], "policy", "planted reason")


@pytest.fixture(autouse=True, scope="module")
def _cheap_scrypt():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "SCRYPT_N", 2)
        yield


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


EVERYTHING = {"round", "reply", "kind", "reason", "campaign", "fingerprint key", "signing", "node"}


def pem_line(key) -> bytes:
    """A line of the PEM that holds bytes of the private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).splitlines()[1][24:]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Home:
    home = Home.made(tmp_path_factory.mktemp("plain"))
    home.fill(None, range(2))
    return home


@pytest.fixture(scope="module")
def sealed(plain: Home, tmp_path_factory) -> Home:
    home = copy(plain, tmp_path_factory.mktemp("sealed"))
    custody.reseal(home.settings(None), home.old)
    return home


def copy(home: Home, root: Path) -> Home:
    shutil.copytree(home.directory.parent, root, dirs_exist_ok=True)
    return Home(root / "client")


def test_what_is_planted_shows_in_plain_files_and_in_no_sealed_one(plain: Home, sealed: Home):
    assert plain.shown(None) == EVERYTHING
    assert sealed.shown(sealed.old) == set()
    assert sealed.contents(sealed.old) == plain.contents(None)


def test_no_free_page_of_a_long_ledger_shows_what_was(plain: Home, tmp_path: Path):
    home = copy(plain, tmp_path)
    with Ledger.open(home.place(None)) as ledger:
        [data_set] = ledger.data_sets()
        for number in range(40):
            ledger.reserve(data_set, f"campaigns/long/rounds/{number}", FREE, UNLIMITED)
            ledger.store_reply(f"campaigns/long/rounds/{number}", REPLIES[0] * 300)
    custody.reseal(home.settings(None), home.old)
    assert home.shown(home.old) == set()
    ciphertexts = stored(home)
    custody.reseal(home.settings(home.old), None)
    every = b"".join(path.read_bytes() for path in home.directory.rglob("*") if path.is_file())
    assert not [old for old in ciphertexts if old[:40] in every or old[-40:] in every]


def test_nothing_shows_while_an_encrypted_ledger_is_in_use(sealed: Home, tmp_path: Path):
    home = copy(sealed, tmp_path)
    with Ledger.open(home.place(home.old)) as ledger:
        home.fill(home.old, range(2, 3))
        assert (home.directory / "ledger.db-wal").stat().st_size > 0
        assert ledger.reply(ROUNDS[2]) == REPLIES[2]
        every = b"".join(path.read_bytes() for path in home.directory.glob("ledger.db*"))
    assert ROUNDS[2].encode() not in every
    assert REPLIES[2] not in every


def test_a_directory_made_with_a_secret_never_shows_anything(tmp_path: Path):
    home = Home.made(tmp_path, encrypted=True)
    assert config.read(home.directory).client.secret == home.old
    home.fill(home.old, range(3))
    assert home.shown(home.old) == set()


def test_sealing_again_makes_a_new_key_each_time_and_the_old_secret_opens_nothing(
    sealed: Home, tmp_path: Path
):
    home = copy(sealed, tmp_path)
    before = home.contents(home.old)
    ciphertexts = stored(home)
    assert custody.reseal(home.settings(home.old), None) == 2
    assert custody.reseal(home.settings(home.old), home.new) == 3
    assert home.contents(home.new) == before
    assert ciphertexts.isdisjoint(stored(home))
    every = b"".join(path.read_bytes() for path in home.directory.rglob("*") if path.is_file())
    assert not [old for old in ciphertexts if old in every]
    with pytest.raises(UsageError, match="the secret does not open it"):
        home.contents(home.old)
    with pytest.raises(UsageError, match="the secret does not open it"):
        custody.reseal(home.settings(home.old), None)
    assert custody.reseal(home.settings(home.old), home.new) == 4


def stored(home: Home) -> set[bytes]:
    """Everything sealed as it lies in the database and in the key files."""
    database = sqlite3.connect(home.directory / "ledger.db")
    cells = "SELECT row FROM chain UNION ALL SELECT reply FROM replies UNION ALL SELECT key FROM identity"
    found = {row[0] for row in database.execute(cells)}
    database.close()
    return found | {path.read_bytes() for path in (home.directory / "keys").iterdir()}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda home: home.settings(None),
            UsageError,
            r"vault\.json seals this client: name the file of its s",
        ),
        (lambda home: home.settings(home.new), UsageError, "vault.json: the secret does not open it"),
        (lambda home: home.settings(home.old / "x"), UsageError, "cannot read the secret"),
        (lambda home: opened_to_others(home), UsageError, r"old is open to others \(mode 0644\): chmod 600"),
        (
            lambda home: without_vault(home),
            UsageError,
            r"vault\.json is missing, though \[client\] secret is set",
        ),
        (
            lambda home: swapped_keys(home),
            VerificationError,
            r"signing\.pem cannot be trusted: keys/signing\.pem is",
        ),
        (
            lambda home: plain_key(home),
            VerificationError,
            r"node\.pem cannot be trusted: not sealed: restore it",
        ),
    ],
)
def test_what_keeps_a_vault_shut_is_told_in_one_line(
    sealed: Home, tmp_path: Path, change, kind: type[PromptferryError], message: str
):
    settings = change(copy(sealed, tmp_path))
    with pytest.raises(kind, match=message) as told:
        custody.load(settings)
    assert "\n" not in str(told.value)


def opened_to_others(home: Home) -> ClientConfig:
    home.old.chmod(0o644)
    return home.settings(home.old)


def without_vault(home: Home) -> ClientConfig:
    (home.directory / "vault.json").unlink()
    return home.settings(home.old)


def swapped_keys(home: Home) -> ClientConfig:
    directory = home.directory / "keys"
    (directory / keys.NODE_FILE).replace(directory / keys.SIGNING_FILE)
    return home.settings(home.old)


def plain_key(home: Home) -> ClientConfig:
    made = keys.create(home.directory / "other")
    (home.directory / "other" / keys.NODE_FILE).replace(home.directory / "keys" / keys.NODE_FILE)
    assert made
    return home.settings(home.old)


def edit(home: Home, statement: str, *parameters: object) -> None:
    database = sqlite3.connect(home.directory / "ledger.db")
    database.execute(statement, parameters)
    database.commit()
    database.close()


SWAP = """UPDATE {0} SET {2} = (SELECT other.{2} FROM {0} other WHERE other.{1} = 3 + 5 - {0}.{1})
          WHERE {1} IN (3, 5)"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (SWAP.format("chain", "number", "row"), "entry 3 was changed, moved or removed"),
        (SWAP.format("replies", "entry", "reply"), "the reply of entry 3 was changed"),
        ("UPDATE chain SET row = substr(row, 1, length(row) - 1) WHERE number = 2", "entry 2 was changed"),
        ("UPDATE chain SET row = x'' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE chain SET row = 'text' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE chain SET row = 7 WHERE number = 2", "entry 2 was changed"),
        (
            "UPDATE replies SET reply = substr(reply, 1, 20) WHERE entry = 3",
            "the reply of entry 3 was changed",
        ),
        (
            "UPDATE identity SET key = substr(key, 2)",
            "fingerprint key cannot be trusted: identity/1 is not what",
        ),
        ("UPDATE identity SET version = 0", "fingerprint key cannot be trusted: not sealed: restore it"),
        ("UPDATE identity SET version = 9", "sealed with key 9, which the vault lacks: restore it"),
        ("UPDATE chain SET row = '{}' WHERE number = 1", "entry 1 was changed"),
    ],
)
def test_a_swapped_or_cut_value_is_noticed_and_names_the_entry(
    sealed: Home, tmp_path: Path, statement: str, message: str
):
    home = copy(sealed, tmp_path)
    edit(home, statement)
    with pytest.raises(LedgerError, match=message) as noticed:
        Ledger.open(home.place(home.old))
    assert "\n" not in str(noticed.value)
    with pytest.raises(LedgerError, match=message):
        custody.reseal(home.settings(home.old), home.new)
    assert custody.load(home.settings(home.old))


def test_a_row_that_is_right_but_not_sealed_is_refused_where_rows_are(sealed: Home, tmp_path: Path):
    home = copy(sealed, tmp_path)
    with Ledger.open(home.place(home.old)) as ledger:
        body = ledger._file._chain.rows()[1].body
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    edit(home, "UPDATE chain SET row = ? WHERE number = 2", text)
    with pytest.raises(LedgerError, match="entry 2 was changed"):
        Ledger.open(home.place(home.old))


def test_a_loss_can_be_declared_over_an_encrypted_ledger(sealed: Home, tmp_path: Path):
    home = copy(sealed, tmp_path)
    edit(home, "DELETE FROM chain WHERE number > 3")
    edit(home, "DELETE FROM replies WHERE entry > 3")
    place = home.place(home.old)
    with pytest.raises(LedgerError, match="was rolled back or cut"):
        Ledger.open(place)
    Ledger.declare_loss(place, FREE).close()
    with Ledger.open(place) as ledger:
        assert [entry.spend for entry in ledger.entries()] == [None, FREE, None, FREE]
    assert home.shown(home.old) == set()


def test_flipped_bits_of_sealed_values_are_noticed(sealed: Home, tmp_path: Path):
    home = copy(sealed, tmp_path)
    place = home.place(home.old)
    for seed in range(60):
        dice = random.Random(seed)
        table, key, column = dice.choice(
            [("chain", "number", "row"), ("replies", "entry", "reply"), ("identity", "rowid", "key")]
        )
        database = sqlite3.connect(place.path)
        number, value = dice.choice(database.execute(f"SELECT {key}, {column} FROM {table}").fetchall())  # noqa: S608
        database.close()
        flipped = bytearray(value)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        update = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"  # noqa: S608
        edit(home, update, bytes(flipped), number)
        with pytest.raises(LedgerError):
            Ledger.open(place)
        edit(home, update, value, number)
    Ledger.open(place).close()


def test_a_plain_ledger_says_not_a_word_of_sealing(plain: Home):
    assert not plain.settings(None).vault_file.exists()
    with pytest.raises(UsageError, match="encrypting needs a secret: name its file with --secret FILE"):
        custody.reseal(plain.settings(None), None)


def test_a_running_daemon_or_reader_keeps_a_directory_as_it_is(sealed: Home, tmp_path: Path, monkeypatch):
    home = copy(sealed, tmp_path)
    before = home.contents(home.old)
    settings = home.settings(home.old)
    with locked(settings.lock_file), pytest.raises(UnavailableError, match="stop it first"):
        custody.reseal(settings, home.new)
    monkeypatch.setattr("client.chain.BUSY_TIMEOUT_S", 0.1)
    reader = connect(settings.ledger_file)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM chain").fetchone()
    with pytest.raises(LedgerError, match=r"is being read by another process: run this again|is locked"):
        custody.reseal(settings, home.new)
    reader.execute("ROLLBACK")
    reader.close()
    for secret in (home.old, home.new):
        assert home.contents(secret) == before
    custody.reseal(settings, home.new)
    assert home.contents(home.new) == before
    with pytest.raises(UsageError):
        home.contents(home.old)


def killed_before_write(number: int, work: Callable[[], object]) -> int:
    """Kills a child as it is about to write for the `number`-th time: sync or swap a file, or change the ledger."""

    def count(frame, event, called):
        nonlocal number
        if event == "c_call":
            statement = called.__name__ == "execute" and frame.f_code.co_filename == resealing.__file__
            number -= statement or called in (os.fsync, os.replace)
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            sys.setprofile(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_writes(before: Home, root: Path, first: Path | None, step: int) -> int:
    """Kills sealing before every `step`-th of its writes, looks, and does it again; returns how many it killed."""
    expected = before.contents(first)
    for kills, number in enumerate(range(1, 1000, step)):
        home = copy(before, root / str(number))
        secret = first and home.old
        ended = killed_before_write(number, partial(custody.reseal, home.settings(secret), home.new))
        in_use = secret or (home.new if home.settings(None).vault_file.exists() else None)
        assert expected in (contents_or_none(home, in_use), contents_or_none(home, home.new)), number
        if ended == 0:
            return kills
        assert ended == -signal.SIGKILL
        custody.reseal(home.settings(secret), home.new)
        assert home.contents(home.new) == expected
        assert home.shown(home.new) == set()
        assert not list(home.directory.rglob(".*")), "a draft was left behind"
        if secret:
            with pytest.raises(UsageError, match="does not open it"):
                home.contents(secret)
    raise AssertionError("the work never ended")


def contents_or_none(home: Home, secret: Path | None) -> tuple[object, ...] | None:
    try:
        return home.contents(secret)
    except UsageError:
        return None


EVERY = pytest.param(1, marks=pytest.mark.slow)


@pytest.mark.parametrize("step", [4, EVERY])
def test_a_first_sealing_killed_at_its_writes_loses_nothing_and_is_finished_by_a_second(
    plain: Home, tmp_path: Path, step: int
):
    assert kill_at_writes(plain, tmp_path, None, step) >= 36 // step


@pytest.mark.parametrize("step", [3, EVERY])
def test_a_rotation_killed_at_its_writes_loses_nothing_and_is_finished_by_a_second(
    sealed: Home, tmp_path: Path, step: int
):
    assert kill_at_writes(sealed, tmp_path, sealed.old, step) >= 36 // step
