"""A client's directory is sealed, and sealed anew, without a moment in which it is lost or something shows."""

import json
import random
import sqlite3
from pathlib import Path

import pytest

from client.home import custody
from client.home import settings as config
from client.home.lock import locked
from client.home.settings import ClientConfig
from client.ledger.chain import connect
from client.ledger.ledger import Ledger
from client.vault import keys, vault
from tests.client.home.sealing import FREE, REPLIES, ROUNDS, Home, copy
from transfer.errors import LedgerError, PromptferryError, UnavailableError, UsageError, VerificationError


@pytest.fixture(autouse=True, scope="module")
def _cheap_scrypt():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "SCRYPT_N", 2)
        yield


EVERYTHING = {"round", "reply", "kind", "reason", "campaign", "fingerprint key", "signing", "node"}


def test_what_is_planted_shows_in_plain_files_and_in_no_sealed_one(plain: Home, sealed: Home):
    assert plain.shown(None) == EVERYTHING
    assert sealed.shown(sealed.old) == set()
    assert sealed.contents(sealed.old) == plain.contents(None)


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
            r"vault\.json is missing, but \[client\] secret is set",
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
    monkeypatch.setattr("client.ledger.chain.BUSY_TIMEOUT_S", 0.1)
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
