"""Whatever is done to a ledger's files behind its back is noticed when it is opened."""

import hashlib
import json
import math
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.entries import Kind
from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from tests.client.ledger.forgeries import FREE, UNLIMITED, copy, edit, fill, head_file
from tests.client.ledgers import at
from transfer.errors import BudgetRefusedError, LedgerError, PromptferryError
from transfer.privacy import Budget, Spend


def test_an_untouched_copy_opens(path: Path):
    with Ledger.open(at(path)) as ledger:
        assert len(ledger.entries()) == 23


@pytest.mark.promise("tamper")
@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["UPDATE chain SET row = replace(row, '\"steps\":1', '\"steps\":2') WHERE number = 2"],
            "entry 2 was changed",
        ),
        (["UPDATE chain SET row = row || ' ' WHERE number = 4"], "entry 4 was changed"),
        (["UPDATE chain SET row = 'nonsense' WHERE number = 4"], "entry 4 was changed"),
        (
            ["UPDATE chain SET digest = (SELECT digest FROM chain WHERE number = 1) WHERE number = 3"],
            "entry 3 was",
        ),
        (["DELETE FROM chain WHERE number = 7"], "entry 7 was changed, moved or removed"),
        (["DELETE FROM chain WHERE number = 1"], "entry 1 was changed, moved or removed"),
        (
            ["DELETE FROM chain WHERE number = 7", "UPDATE chain SET number = number - 1 WHERE number > 7"],
            "entry 7",
        ),
        (
            [
                "UPDATE chain SET number = 99 WHERE number = 5",
                "UPDATE chain SET number = 5 WHERE number = 6",
                "UPDATE chain SET number = 6 WHERE number = 99",
            ],
            "entry 5 was changed, moved or removed",
        ),
        (["UPDATE chain SET number = 99 WHERE number = 23"], "entry 23 was changed, moved or removed"),
        (["DELETE FROM chain WHERE number > 20"], "rolled back or cut: it has 20 entries, .* records 23"),
        (["DELETE FROM chain"], "rolled back or cut: it has 0 entries"),
        (["INSERT INTO chain SELECT -1, row, digest FROM chain WHERE number = 2"], "entries out of order"),
        (["INSERT INTO chain SELECT 24, row, digest FROM chain WHERE number = 23"], "entry 24 was changed"),
        (
            ["DELETE FROM records WHERE fingerprint = (SELECT min(fingerprint) FROM records)"],
            "records of entry",
        ),
        (["INSERT INTO records VALUES (x'00', 1)"], "records of entry 1 were changed"),
        (["INSERT INTO records VALUES (x'00', 99)"], "content for entry 99"),
        (["UPDATE records SET entry = 12 WHERE entry = 1"], "records of entry 1 were changed"),
        (["UPDATE replies SET reply = x'00' WHERE entry = 3"], "reply of entry 3 was changed"),
        (["DELETE FROM replies WHERE entry = 3"], "reply of entry 3 was changed"),
        (["INSERT INTO replies VALUES (2, x'00')"], "content for entry 2"),
        (["UPDATE identity SET key = randomblob(32)"], "entry 1 was changed"),
        (["DELETE FROM identity"], "0 fingerprint keys"),
    ],
)
def test_an_edit_is_noticed_and_names_the_entry(path: Path, statements: list[str], message: str):
    edit(path, *statements)
    with pytest.raises(LedgerError, match=message) as noticed:
        Ledger.open(at(path))
    assert "\n" not in str(noticed.value)


def random_edit(path: Path, dice: random.Random) -> None:
    """One bit of one value changed, one row removed or moved, or everything from one row on removed."""
    table, key = dice.choice([("chain", "number"), ("records", "fingerprint"), ("replies", "entry")])
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    row = dice.choice(database.execute(f"SELECT * FROM {table} ORDER BY {key}").fetchall())  # noqa: S608
    column = dice.choice(row.keys())
    match dice.choice(["value", "value", "value", "delete", "cut"]):
        case "value":
            update = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {key} = ?"  # noqa: S608
            database.execute(update, (changed(row[column], dice), row[key]))
        case "delete":
            database.execute(f"DELETE FROM {table} WHERE {key} = ?", (row[key],))  # noqa: S608
        case "cut":
            database.execute(f"DELETE FROM {table} WHERE {key} >= ?", (row[key],))  # noqa: S608
    database.commit()
    database.close()


def changed(value: int | str | bytes, dice: random.Random) -> int | str | bytes:
    if isinstance(value, int):
        return value + dice.choice([-3, -1, 1, 2, 100])
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(7)
    return raw.decode() if isinstance(value, str) else bytes(raw)


def random_forgery(path: Path, dice: random.Random) -> tuple[int, str]:
    """Other rows than there were, with every digest computed anew; returns the head they have now."""
    database = sqlite3.connect(path)
    rows = {number: json.loads(row) for number, row in database.execute("SELECT number, row FROM chain")}
    victim = dice.choice(sorted(rows))
    match dice.choice(["cheaper", "reply", "delete", "rollback"]):
        case "cheaper":
            victim = dice.choice([number for number, row in rows.items() if row["kind"] == "spend"])
            rows[victim]["noise_multiplier"] = 9.0
        case "reply":
            victim = dice.choice([number for number, row in rows.items() if row["kind"] == "reply"])
            rows[victim]["content"] = hashlib.sha256(b"other").hexdigest()
            database.execute("UPDATE replies SET reply = ? WHERE entry = ?", (b"other", victim))
        case "delete":
            del rows[victim]
        case "rollback":
            rows = {number: row for number, row in rows.items() if number < victim}
    head = rewritten(database, rows, head_file(path).genesis)
    database.commit()
    database.close()
    return head


def rewritten(database: sqlite3.Connection, rows: dict[int, dict], genesis: str) -> tuple[int, str]:
    """Chains these rows anew and gives what is beside the chain its new numbers."""
    for table in ("records", "replies"):
        known = ", ".join(map(str, rows))
        database.execute(f"DELETE FROM {table} WHERE entry NOT IN ({known})")  # noqa: S608
    database.execute("DELETE FROM chain")
    number, digest = 0, genesis
    for number, (old, row) in enumerate(sorted(rows.items()), 1):
        row |= {"number": number, "previous": digest}
        text = json.dumps(row, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        database.execute("INSERT INTO chain VALUES (?, ?, ?)", (number, text, digest))
        for table in ("records", "replies"):
            database.execute(f"UPDATE {table} SET entry = ? WHERE entry = ?", (number, old))  # noqa: S608
    return number, digest


def forge_head(path: Path, number: int, digest: str, dice: random.Random) -> None:
    """The best head that somebody without the key can write, short of one that was true once."""
    genuine = dice.choice([head for head in head_file(path).heads() if head.number != number])
    match dice.choice(["own key", "old signature", "unsigned", "nothing", "added"]):
        case "own key":
            head_file(path, Ed25519PrivateKey.generate()).start(number, digest)
        case "old signature":
            at(path).head.write_text(f"\n{number} {digest} {genuine.signature}\n")
        case "unsigned":
            at(path).head.write_text(f"\n{number} {digest}\n")
        case "nothing":
            at(path).head.write_text("")
        case "added":
            head_file(path, Ed25519PrivateKey.generate()).remember(number, digest)


def assert_random_edits_are_noticed(original: Path, directory: Path, count: int) -> None:
    for seed in range(count):
        path, dice = copy(original, directory), random.Random(seed)
        if seed % 2:
            random_edit(path, dice)
        else:
            forge_head(path, *random_forgery(path, dice), dice)
        with pytest.raises(LedgerError):
            Ledger.open(at(path))


def test_a_hundred_random_edits_and_forgeries_are_noticed(original: Path, tmp_path: Path):
    assert_random_edits_are_noticed(original, tmp_path, 100)


@pytest.mark.promise("tamper")
@pytest.mark.slow
def test_two_thousand_random_edits_and_forgeries_are_noticed(original: Path, tmp_path: Path, measured):
    assert_random_edits_are_noticed(original, tmp_path, 2000)
    measured(edits_and_forgeries_noticed=2000)


def test_the_same_forgeries_open_once_the_owners_key_has_signed_them(original: Path, tmp_path: Path):
    for seed in range(30):
        path = copy(original, tmp_path)
        head_file(path).start(*random_forgery(path, random.Random(seed)))
        with Ledger.open(at(path)) as ledger:
            assert ledger.verify() > 0


def test_a_flipped_bit_of_the_file_is_noticed_or_changes_nothing(original: Path, tmp_path: Path):
    with Ledger.open(at(copy(original, tmp_path))) as ledger:
        expected = ledger.entries(), [ledger.reply(f"r{n}") for n in range(10)]
    content = original.read_bytes()
    noticed = 0
    for seed in range(150):
        dice = random.Random(seed)
        path = copy(original, tmp_path)
        flipped = bytearray(content)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            with Ledger.open(at(path)) as ledger:
                assert (ledger.entries(), [ledger.reply(f"r{n}") for n in range(10)]) == expected
        except PromptferryError:
            noticed += 1
    assert noticed > 20


@pytest.mark.promise("tamper")
def test_an_older_copy_put_back_is_noticed(path: Path, tmp_path: Path):
    older = path.read_bytes()
    with Ledger.open(at(path)) as ledger:
        fill(ledger, range(10, 11))
    path.write_bytes(older)
    with pytest.raises(LedgerError, match=r"rolled back or cut: .*ledger declare-loss"):
        Ledger.open(at(path))


@pytest.mark.promise("tamper")
def test_another_history_of_the_same_length_is_noticed(path: Path, tmp_path: Path):
    (tmp_path / "fork").mkdir()
    fork = copy(path, tmp_path / "fork")
    for one, rounds in ((path, range(10, 11)), (fork, range(11, 12))):
        with Ledger.open(at(one)) as ledger:
            fill(ledger, rounds)
    shutil.copy2(fork, path)
    with pytest.raises(LedgerError, match=r"entry 24 is not the one in .*ledger\.sqlite\.head"):
        Ledger.open(at(path))


def test_a_new_signing_key_is_a_loss_to_declare(path: Path):
    place = LedgerPlace(path, Ed25519PrivateKey.generate())
    with pytest.raises(LedgerError, match="not signed by this client's key"):
        Ledger.open(place)
    Ledger.declare_loss(place, FREE).close()
    Ledger.open(place).close()


def test_a_ledger_cut_while_open_spends_no_more(path: Path):
    with Ledger.open(at(path)) as ledger:
        [data_set] = ledger.data_sets()
        edit(path, "DELETE FROM chain WHERE number > 20")
        with pytest.raises(LedgerError, match="entry 23 changed while in use"):
            ledger.reserve(data_set, "r99", FREE, UNLIMITED)


@pytest.mark.promise("tamper")
def test_a_row_changed_behind_an_open_ledger_is_found_by_reading_again(path: Path):
    with Ledger.open(at(path)) as ledger:
        edit(path, "UPDATE chain SET row = replace(row, '\"steps\":1', '\"steps\":2') WHERE number = 2")
        with pytest.raises(LedgerError, match="entry 2 was changed"):
            ledger.verify()


def test_reading_again_forgets_what_the_owner_has_declared_lost(path: Path):
    with Ledger.open(at(path)) as ledger:
        [data_set] = ledger.data_sets()
        assert ledger.spends(data_set) == [FREE] * 10
        edit(path, "DELETE FROM chain WHERE number IN (22, 23)", "DELETE FROM replies WHERE entry = 23")
        Ledger.declare_loss(at(path), Spend(0.05, 1.0, 9)).close()
        assert ledger.verify() == 22
        assert ledger.spends(data_set) == [FREE] * 9 + [Spend(0.05, 1.0, 9)]


def test_what_a_failed_transaction_appended_is_forgotten(path: Path):
    def stopped(ledger: Ledger, data_set: str) -> None:
        with ledger._file.writing():
            ledger._file.append(Kind.SPEND, data_set, "r98", FREE)
            raise KeyboardInterrupt

    with Ledger.open(at(path)) as ledger:
        head, [data_set] = ledger.head(), ledger.data_sets()
        with pytest.raises(KeyboardInterrupt):
            stopped(ledger, data_set)
        assert ledger.head() == head
        assert ledger.reserve(data_set, "r99", FREE, UNLIMITED).fresh
        assert ledger.spends(data_set) == [FREE] * 11
        assert ledger.verify() == 24


def test_a_row_is_canonical_json_of_numbers_that_are_numbers(path: Path):
    with Ledger.open(at(path)) as ledger, pytest.raises(ValueError, match="JSON"), ledger._file.writing():
        ledger._file._chain.append({"steps": math.nan})
    database = sqlite3.connect(path)
    rows = [row for (row,) in database.execute("SELECT row FROM chain")]
    database.close()
    assert rows == [json.dumps(json.loads(row), sort_keys=True, separators=(",", ":")) for row in rows]


def test_a_row_kept_as_bytes_is_no_row_of_a_plain_ledger(path: Path):
    edit(path, "UPDATE chain SET row = CAST(row AS BLOB) WHERE number = 4")
    with pytest.raises(LedgerError, match="entry 4 was changed"):
        Ledger.open(at(path))


def test_a_declared_loss_is_charged_to_every_data_set_and_opens_the_ledger(path: Path):
    with Ledger.open(at(path)) as ledger:
        ledger.data_set([ledger.fingerprint("a data set apart")])
    edit(path, "DELETE FROM chain WHERE number IN (22, 23)", "DELETE FROM replies WHERE entry = 23")
    edit(path, "DELETE FROM chain WHERE number = 24", "DELETE FROM records WHERE entry = 24")
    with pytest.raises(LedgerError, match="rolled back or cut"):
        Ledger.open(at(path))
    assumed = Spend(0.05, 1.0, 9)
    with Ledger.declare_loss(at(path), assumed) as ledger:
        [data_set] = ledger.data_sets()
        assert ledger.spends(data_set) == [FREE] * 9 + [assumed]
    with Ledger.open(at(path)) as ledger:
        assert ledger.verify() == 22
        with pytest.raises(BudgetRefusedError):
            ledger.reserve(data_set, "r99", assumed, Budget(1.0, 1e-6))
    edit(path, "DELETE FROM chain WHERE number = 22")
    with pytest.raises(LedgerError, match="rolled back or cut"):
        Ledger.open(at(path))


def test_a_loss_cannot_be_declared_over_a_damaged_ledger(path: Path):
    edit(path, "INSERT INTO chain SELECT -1, row, digest FROM chain WHERE number = 2")
    with pytest.raises(LedgerError, match="entries out of order"):
        Ledger.declare_loss(at(path), FREE)
    edit(path, "DELETE FROM chain WHERE number = -1", "UPDATE replies SET reply = x'00' WHERE entry = 3")
    before = at(path).head.read_bytes()
    with pytest.raises(LedgerError, match="reply of entry 3"):
        Ledger.declare_loss(at(path), FREE)
    assert at(path).head.read_bytes() == before
