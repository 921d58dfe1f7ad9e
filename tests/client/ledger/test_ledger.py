"""A spend is written down before it is spent, once a round, and only within the budget of its data set."""

import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ledger.entries import Kind
from client.ledger.ledger import Ledger
from tests.client.ledger.reservations import DELTA, UNIT, UNLIMITED, contents, register, units
from tests.client.ledgers import at
from transfer.errors import BudgetRefusedError, LedgerError, UsageError
from transfer.privacy import Budget, Spend, epsilon

"""So little noise that ε is above 100, where it is quick to compute."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_reservation_is_there_after_reopening(path: Path):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a", "b")
        made = ledger.reserve(data_set, "r1", UNIT, UNLIMITED)
        assert (made.fresh, made.reply, made.spend, made.data_set) == (True, None, UNIT, data_set)
        head = ledger.head()
    with Ledger.open(at(path)) as again:
        assert again.head() == head
        assert again.spends(data_set) == [UNIT]
        assert [entry.kind for entry in again.entries()] == [Kind.RECORDS, Kind.SPEND]
        assert again.verify() == 2


def test_epsilon_is_computed_from_all_spends_of_the_data_set(ledger: Ledger):
    data_set = register(ledger, "a")
    assert ledger.epsilon(data_set, DELTA) == 0
    spends = [Spend(2.0, 0.01, 100), Spend(1.5, 0.02, 50)]
    for number, spend in enumerate(spends):
        ledger.reserve(data_set, f"r{number}", spend, Budget(8.0, DELTA))
    assert ledger.epsilon(data_set, DELTA) == epsilon(spends, DELTA) > epsilon(spends[:1], DELTA)
    assert ledger.epsilon("data-unknown", DELTA) == 0


@pytest.mark.promise("same-answer")
def test_the_same_round_is_reserved_once_even_when_the_budget_is_used_up(path: Path):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a")
        assert ledger.reserve(data_set, "r1", UNIT, units(1)).fresh
        for _ in range(50):
            again = ledger.reserve(data_set, "r1", UNIT, units(1))
            assert (again.fresh, again.reply) == (False, None)
    for _ in range(3):
        with Ledger.open(at(path)) as ledger:
            assert not ledger.reserve(data_set, "r1", UNIT, units(1)).fresh
            assert ledger.spends(data_set) == [UNIT]


def test_a_stopped_round_is_reserved_once_more_and_only_for_the_same_request(path: Path):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a")
        assert not ledger.is_over("r1", "request")
        ledger.reserve(data_set, "r1", UNIT, units(1), "request")
        assert ledger.is_over("r1", "request")
        ledger.stop("r1")
    with Ledger.open(at(path)) as ledger:
        assert not ledger.is_over("r1", "request")
        assert ledger.is_over("r1", "other")
        assert not ledger.reserve(data_set, "r1", UNIT, units(1), "other").fresh
        again = ledger.reserve(data_set, "r1", UNIT, units(1), "request")
        assert (again.fresh, again.round_name, again.data_set) == (True, "r1", data_set)
        assert ledger.is_over("r1", "request")
        assert not ledger.reserve(data_set, "r1", UNIT, units(1), "request").fresh
        assert ledger.spends(data_set) == [UNIT]


def test_a_round_without_a_reservation_has_nothing_to_stop(ledger: Ledger):
    ledger.stop("r1")
    assert ledger.entries() == []


def test_every_stopped_round_is_over_once_a_loss_is_declared(path: Path):
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a")
        ledger.reserve(data_set, "r1", UNIT, UNLIMITED, "request")
        ledger.stop("r1")
    with Ledger.declare_loss(at(path), UNIT) as ledger:
        over = ledger.entries()[-1]
        assert (over.kind, over.data_set, over.subject) == (Kind.AGAIN, "", "r1")
        assert ledger.is_over("r1", "request")
        assert not ledger.reserve(data_set, "r1", UNIT, UNLIMITED, "request").fresh


def test_the_head_is_the_newest_entry_whoever_wrote_it(ledger: Ledger, path: Path):
    with Ledger.open(at(path)) as other:
        register(other, "a")
        assert ledger.head() == other.head()
        assert ledger.head()[0] == 1


def test_an_unknown_data_set_cannot_spend(ledger: Ledger):
    with pytest.raises(LedgerError, match="unknown data set 'data-0'"):
        ledger.reserve("data-0", "r1", UNIT, UNLIMITED)


def test_a_reply_is_kept_byte_for_byte_across_reopening(path: Path):
    reply = os.urandom(60_000)
    with Ledger.create(at(path)) as ledger:
        data_set = register(ledger, "a")
        ledger.reserve(data_set, "r1", UNIT, UNLIMITED)
        assert ledger.reply("r1") is None
        ledger.store_reply("r1", reply)
        head = ledger.head()
    for _ in range(3):
        with Ledger.open(at(path)) as ledger:
            assert ledger.reply("r1") == reply
            assert ledger.reserve(data_set, "r1", UNIT, UNLIMITED).reply == reply
            ledger.store_reply("r1", reply)
            assert ledger.head() == head


def test_a_second_and_different_reply_is_refused(ledger: Ledger):
    ledger.reserve(register(ledger, "a"), "r1", UNIT, UNLIMITED)
    ledger.store_reply("r1", b"first")
    with pytest.raises(LedgerError, match="has another reply already"):
        ledger.store_reply("r1", b"second")
    assert ledger.reply("r1") == b"first"


def test_nothing_can_be_kept_for_a_round_without_a_reservation(ledger: Ledger):
    with pytest.raises(LedgerError, match="no reservation: nothing may be released"):
        ledger.store_reply("r1", b"reply")
    assert ledger.entries() == []


def test_a_reservation_never_shows_its_reply(ledger: Ledger):
    data_set = register(ledger, "a")
    ledger.reserve(data_set, "r1", UNIT, UNLIMITED)
    ledger.store_reply("r1", b"released bytes")
    assert "released bytes" not in repr(ledger.reserve(data_set, "r1", UNIT, UNLIMITED))


@pytest.mark.parametrize(
    "same",
    ["Crème brûlée ", "  CRÈME   brûlée", "Cre\u0300me bru\u0302le\u0301e", "crème\nbrûlée", "ｃrème brûlée"],
)
def test_a_record_is_known_whatever_its_case_spacing_or_unicode_form(ledger: Ledger, same: str):
    assert ledger.fingerprint(same) == ledger.fingerprint("Crème brûlée")
    assert ledger.fingerprint("Creme brulee") != ledger.fingerprint("Crème brûlée")


@pytest.mark.promise("lineage")
def test_fingerprints_stay_what_they_were_when_the_ledger_was_made(ledger: Ledger):
    """In another form every known record would be a new one with a new budget."""
    for unit, kept in (
        ("record", b"cr\xc3\xa8me br\xc3\xbbl\xc3\xa9e"),
        ("user", b"user\ncr\xc3\xa8me br\xc3\xbbl\xc3\xa9e"),
    ):
        assert ledger.fingerprint("Crème  brûlée", unit) == hmac.digest(ledger._file.key, kept, "sha256")


def test_the_chain_of_a_ledger_begins_at_its_key_as_it_always_did(ledger: Ledger):
    """From another beginning no ledger that is in use would open."""
    genesis = hashlib.sha256(b"promptferry ledger" + ledger._file.key).hexdigest()
    assert ledger.head() == (0, genesis)


def test_words_run_together_and_halves_of_characters_are_other_records(ledger: Ledger):
    texts = ["ab c", "a bc", "abc", "a b c", "\ud800", "\udc00", ""]
    assert len({ledger.fingerprint(text) for text in texts}) == len(texts)


def test_fingerprints_mean_nothing_in_another_ledger(tmp_path: Path):
    with Ledger.create(at(tmp_path / "a")) as first, Ledger.create(at(tmp_path / "b")) as second:
        assert first.fingerprint("text") != second.fingerprint("text")
        assert len(first._file.key) == len(second._file.key) == 32


@pytest.mark.promise("lineage")
def test_an_overlapping_file_shares_the_budget_and_a_disjoint_one_does_not(ledger: Ledger):
    data_set = register(ledger, "a", "b", "c")
    ledger.reserve(data_set, "r1", UNIT, units(1))
    for grown in (["c", "d", "e"], ["e", "f"], ["F "]):
        assert register(ledger, *grown) == data_set
        with pytest.raises(BudgetRefusedError):
            ledger.reserve(data_set, "r2", UNIT, units(1))
    assert register(ledger, "x", "y") != data_set
    assert ledger.data_sets() == [data_set, register(ledger, "y")]


def test_registering_known_records_again_writes_nothing(ledger: Ledger, path: Path):
    register(ledger, "a", "b")
    before = contents(path)
    register(ledger, "b", "a", "a")
    register(ledger, "b")
    assert contents(path) == before


def test_data_sets_that_turn_out_to_overlap_are_charged_with_the_spends_of_both(path: Path):
    with Ledger.create(at(path)) as ledger:
        sets = [register(ledger, text) for text in "abc"]
        for number, data_set in enumerate(sets):
            ledger.reserve(data_set, f"r{number}", Spend(0.05, 1.0, number + 1), UNLIMITED)
        assert register(ledger, "a", "b", "new") == sets[0]
        assert register(ledger, "new", "c") == sets[0]
    with Ledger.open(at(path)) as ledger:
        assert ledger.data_sets() == sets[:1]
        for data_set in sets:  # an id handed out before the merge stays valid
            assert [spend.steps for spend in ledger.spends(data_set)] == [1, 2, 3]
            with pytest.raises(BudgetRefusedError):
                ledger.reserve(data_set, "r9", UNIT, units(6))
            assert not ledger.reserve(data_set, "r1", Spend(0.05, 1.0, 2), units(1)).fresh


@pytest.mark.promise("lineage")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sets(st.integers(0, 12), min_size=1, max_size=4), min_size=1, max_size=8))
def test_data_sets_are_the_connected_components_of_files_that_share_records(tmp_path_factory, files):
    parent = list(range(13))

    def root(record: int) -> int:
        return record if parent[record] == record else root(parent[record])

    with Ledger.create(at(tmp_path_factory.mktemp("lineage") / "ledger")) as ledger:
        for number, file in enumerate(files):
            data_set = register(ledger, *map(str, file))
            ledger.reserve(data_set, f"r{number}", UNIT, UNLIMITED)
            for record in file:
                parent[root(record)] = root(min(file))
        components: dict[int, int] = {}
        for file in files:
            component = root(min(file))
            components[component] = components.get(component, 0) + 1
        assert len(ledger.data_sets()) == len(components)
        for component, spent in components.items():
            assert len(ledger.spends(register(ledger, str(component)))) == spent


def test_a_data_set_needs_a_record(ledger: Ledger):
    with pytest.raises(UsageError, match="at least one record"):
        ledger.data_set([])


def test_the_ledger_keeps_no_text(ledger: Ledger, path: Path):
    data_set = register(ledger, "Zq7 the patient said")
    ledger.reserve(data_set, "r1", UNIT, UNLIMITED)
    for content in contents(path).values():
        assert b"patient" not in content.lower()
