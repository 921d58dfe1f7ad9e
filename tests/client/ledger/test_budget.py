"""What the budget does not cover is refused and changes nothing."""

from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from tests.client.ledger.reservations import DELTA, UNIT, UNLIMITED, contents, register, units
from transfer.errors import BudgetRefusedError, LedgerError
from transfer.privacy import Spend, epsilon


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.mark.promise("budget")
def test_a_refused_spend_changes_nothing(ledger: Ledger, path: Path):
    data_set = register(ledger, "a")
    for number in range(3):
        ledger.reserve(data_set, f"r{number}", UNIT, units(3))
    before, head = contents(path), ledger.head()
    with pytest.raises(BudgetRefusedError) as refused:
        ledger.reserve(data_set, "r3", UNIT, units(3))
    assert contents(path) == before
    assert ledger.head() == head
    assert ledger.verify() == 4
    now, then = (f"{epsilon([UNIT] * count, DELTA):.4g}" for count in (3, 4))
    assert f"has spent ε {now}, this round would make it {then}, the budget is {now} at δ 1e-06" in str(
        refused.value
    )


def test_a_smaller_spend_may_fit_where_a_larger_did_not(ledger: Ledger):
    data_set = register(ledger, "a")
    with pytest.raises(BudgetRefusedError):
        ledger.reserve(data_set, "r1", Spend(0.05, 1.0, 2), units(1))
    assert ledger.reserve(data_set, "r1", UNIT, units(1)).fresh


def test_a_round_cannot_be_reserved_again_for_another_spend_or_data_set(ledger: Ledger):
    first, second = register(ledger, "a"), register(ledger, "b")
    ledger.reserve(first, "r1", UNIT, UNLIMITED)
    head = ledger.head()
    with pytest.raises(LedgerError, match="round r1 was reserved before"):
        ledger.reserve(first, "r1", Spend(0.05, 1.0, 2), UNLIMITED)
    with pytest.raises(LedgerError, match="round r1 was reserved before"):
        ledger.reserve(second, "r1", UNIT, UNLIMITED)
    assert ledger.head() == head
