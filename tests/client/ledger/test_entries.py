"""A data set is spent for one unit of privacy, and is known by its users where they are that unit."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from client.ledger.chain import Chain, connect
from client.ledger.entries import Kind
from client.ledger.file import LedgerFile
from client.ledger.ledger import Ledger
from tests.client.ledgers import at
from transfer.errors import BudgetRefusedError, LedgerError
from transfer.privacy import Budget, Spend, epsilon

RECORD, USER = Spend(0.05, 1.0, 1), Spend(0.05, 1.0, 1, "user")
"""So little noise that ε is above 100, where it is quick to compute."""
UNLIMITED = Budget(math.inf, 1e-6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def register(ledger: Ledger, *texts: str, users: tuple[str, ...] = ()) -> str:
    names = [ledger.fingerprint(user, "user") for user in users]
    return ledger.data_set([*map(ledger.fingerprint, texts), *names])


@pytest.mark.parametrize(("first", "second"), [(RECORD, USER), (USER, RECORD)])
def test_a_spend_for_another_unit_is_refused_in_words_and_changes_nothing(
    path: Path, first: Spend, second: Spend
):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a", users=("ann",))
        ledger.reserve(data_set, "r1", first, UNLIMITED)
        head = ledger.head()
        with pytest.raises(BudgetRefusedError) as refused:
            ledger.reserve(data_set, "r2", second, UNLIMITED)
        assert str(refused.value) == (
            f"{data_set} was spent for one {first.unit} so far, this round is for one {second.unit}: the two do "
            f"not compose; set declared_{first.unit}s in [data] again, or use data on which nothing was spent yet"
        )
        assert ledger.head() == head
    with Ledger.open(at(path)) as ledger:
        with pytest.raises(BudgetRefusedError):
            ledger.reserve(data_set, "r2", second, UNLIMITED)
        assert ledger.reserve(data_set, "r2", first, UNLIMITED).fresh
        assert ledger.unit(data_set) == first.unit
        assert ledger.epsilon(data_set, 1e-6) == epsilon([first, first], 1e-6)


def test_a_round_reserved_for_one_unit_is_never_reserved_for_the_other(ledger: Ledger):
    data_set = register(ledger, "a")
    ledger.reserve(data_set, "r1", USER, UNLIMITED)
    with pytest.raises(LedgerError, match="round r1 was reserved before"):
        ledger.reserve(data_set, "r1", RECORD, UNLIMITED)


def test_a_file_that_shares_a_user_is_the_same_data_set_though_it_shares_no_record(ledger: Ledger):
    data_set = register(ledger, "a", "b", users=("Ann Lee", "ben"))
    assert register(ledger, "c", users=(" ann  LEE", "cleo")) == data_set
    assert register(ledger, "d", users=("cleo",)) == data_set
    assert register(ledger, "e", users=("dan",)) != data_set


def test_a_user_and_a_record_of_the_same_words_are_not_the_same(ledger: Ledger):
    assert register(ledger, "ann", "user\nann", "user ann") != register(ledger, "b", users=("ann",))


def test_a_file_that_would_join_data_sets_spent_for_different_units_is_refused(ledger: Ledger):
    first, second = register(ledger, "a"), register(ledger, "b", users=("ben",))
    register(ledger, "c")
    ledger.reserve(first, "r1", RECORD, UNLIMITED)
    ledger.reserve(second, "r2", USER, UNLIMITED)
    head = ledger.head()
    with pytest.raises(
        BudgetRefusedError, match=f"belong to {first}, .* record, and to {second}, .* one user"
    ):
        register(ledger, "a", "b", "c", "new")
    assert ledger.head() == head
    assert register(ledger, "a", "c") == first  # nothing was spent on the other one
    assert ledger.unit(register(ledger, "c", "d")) == "record"


def written_before_there_was_a_unit(path: Path, text: str) -> str:
    """A ledger as it was written then: a spend of two rounds, without the key."""
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, text)
        key = ledger._file.key
    old = Chain(path, connect(path), LedgerFile(at(path), connect(path), key)._chain._head_file)
    for number in (1, 2):
        with old.writing():
            body = {"time": "2025-01-01T00:00:00+00:00", "kind": "spend", "data_set": data_set, "content": ""}
            cost = {key: value for key, value in asdict(RECORD).items() if key != "unit"}
            old.append({**body, "subject": f"r{number}", **cost})
    return data_set


def test_entries_from_before_there_was_a_unit_are_of_records_and_still_verify(path: Path):
    data_set = written_before_there_was_a_unit(path, "a")
    assert at(path).head.is_file()
    with Ledger.open(at(path)) as ledger:
        assert ledger.verify() == 3
        assert ledger.spends(data_set) == [RECORD, RECORD]
        with pytest.raises(BudgetRefusedError, match="was spent for one record so far"):
            ledger.reserve(data_set, "r3", USER, UNLIMITED)
        assert not ledger.reserve(data_set, "r2", RECORD, UNLIMITED).fresh
        assert ledger.reserve(data_set, "r3", RECORD, UNLIMITED).fresh
        assert ledger.verify() == 4


def test_an_entry_of_a_unit_nobody_knows_is_of_an_unknown_form(path: Path):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a")
        object.__setattr__(made := Spend(0.05, 1.0, 1), "unit", "household")
        with ledger._file.writing():
            ledger._file.append(Kind.SPEND, data_set, "r1", made)
    with pytest.raises(LedgerError, match="entry 2 of the ledger has an unknown form: update promptferry"):
        Ledger.open(at(path))


def test_a_declared_loss_is_charged_in_the_unit_of_each_data_set(path: Path):
    with Ledger.create(at(path)) as ledger:
        sets = [register(ledger, text) for text in "abc"]
        ledger.reserve(sets[0], "r1", RECORD, UNLIMITED)
        ledger.reserve(sets[1], "r2", USER, UNLIMITED)
    with Ledger.declare_loss(at(path), USER) as ledger:
        assert [ledger.unit(name) for name in sets] == ["record", "user", "user"]
        assert [len(ledger.spends(name)) for name in sets] == [2, 2, 1]


def test_the_ledger_keeps_no_user_name(ledger: Ledger, path: Path):
    ledger.reserve(register(ledger, "a", users=("Zq7 Patient",)), "r1", USER, UNLIMITED)
    for file in path.parent.iterdir():
        assert b"patient" not in file.read_bytes().lower()
