"""What was declined stands in the ledger, costs nothing, and is never more than the owner has room for."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import client
from client.ledger.entries import LONGEST_WHY, Declined
from client.ledger.file import LedgerFile
from client.ledger.ledger import Ledger
from client.rounds.forecast import Forecast
from tests.client.ledgers import at
from transfer.errors import LedgerError
from transfer.privacy import Budget, Spend

UNIT = Spend(0.05, 1.0, 1)
"""So little noise that ε is above 100, where it is quick to compute."""
BUDGET = Budget(1e6, 1e-6)
CLIENT = str(Path(client.__file__).parent)


def declined(number: int, why: str = "policy tasks: 'x' asked, none allowed") -> Declined:
    return Declined.of(f"campaigns/c{number}/rounds/1", "policy", why)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.create(at(path)) as ledger:
        yield ledger


def test_a_decline_is_there_after_reopening_and_is_part_of_the_chain(path: Path) -> None:
    with Ledger.create(at(path)) as ledger:
        ledger.decline(declined(1))
        [entry] = ledger.declines()
        assert (entry.number, entry.subject, entry.data_set) == (1, "campaigns/c1/rounds/1", "")
        assert ledger.head() == (1, entry.digest)
    with Ledger.open(at(path)) as again:
        assert again.declines() == [entry]
        assert again.verify() == 1
        assert again.declines() == [entry]


def test_only_another_round_refusal_or_reason_is_another_decline(path: Path, ledger: Ledger) -> None:
    said = [
        declined(1),
        declined(2),
        declined(1, "policy hours: 03 h UTC asked"),
        Declined.of("campaigns/c1/rounds/1", "failed", declined(1).why),
    ]
    for each in said:
        ledger.decline(each)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with Ledger.open(at(path)) as other:
        for each in said:
            ledger.decline(each)
            other.decline(each)
    assert [entry.declined for entry in ledger.declines()] == said
    for name in (path.name, f"{path.name}-wal", f"{path.name}.head"):
        assert (path.parent / name).read_bytes() == before[name]


def known(ledger: Ledger) -> tuple[object, ...]:
    """All that a ledger is asked for."""
    sets = ledger.data_sets()
    return (
        ledger.entries(),
        {name: (ledger.spends(name), ledger.unit(name), ledger.epsilon(name, BUDGET.delta)) for name in sets},
        [ledger.reply(f"r{number}") for number in range(3)],
        Forecast.of(ledger, UNIT, 2, BUDGET),
    )


def test_declines_change_no_answer_of_the_ledger(path: Path, ledger: Ledger) -> None:
    for number in range(3):
        data_set = ledger.data_set([ledger.fingerprint("shared" if number else "other")])
        ledger.reserve(data_set, f"r{number}", UNIT, BUDGET)
        ledger.store_reply(f"r{number}", b"reply")
        before = known(ledger)
        ledger.decline(Declined.of(f"r{number}", "policy", "again"))
        ledger.decline(Declined.of(f"r{number + 1}", "policy", "not yet"))
        assert known(ledger) == before
    with Ledger.open(at(path)) as again:
        assert known(again) == before
    merged = ledger.data_set([ledger.fingerprint("shared"), ledger.fingerprint("other")])
    assert ledger.spends(merged) == [UNIT] * 3
    assert ledger.reserve(merged, "r3", UNIT, BUDGET).fresh


def test_a_loss_declared_over_declines_is_charged_as_without_them(path: Path) -> None:
    with Ledger.create(at(path)) as ledger:
        data_set = ledger.data_set([ledger.fingerprint("record")])
        for number in range(3):
            ledger.decline(declined(number))
    kept = path.read_bytes()
    with Ledger.open(at(path)) as ledger:
        ledger.reserve(data_set, "r1", UNIT, BUDGET)
    path.write_bytes(kept)
    with pytest.raises(LedgerError, match=r"was rolled back or cut: it has 4 entries, .* records 5"):
        Ledger.open(at(path))
    with Ledger.declare_loss(at(path), UNIT) as ledger:
        assert ledger.spends(data_set) == [UNIT]
        assert ledger.entries()[-1].subject == f"lost after 4 of {data_set}"
        assert len(ledger.declines()) == 3
        assert ledger.verify() == 5


def test_a_coordinator_that_asks_for_ever_fills_no_disk_and_the_log_says_so_once(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("client.ledger.ledger.MOST_DECLINES", 3)
    for number in range(10):
        assert bool(caplog.records) == (number > 2)
        ledger.decline(declined(number))
    with Ledger.open(at(path)) as again:
        again.decline(declined(11))
        assert [entry.declined for entry in again.declines()] == [declined(number) for number in range(3)]
        assert again.verify() == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "3 declines, further ones are only logged" in caplog.text
    assert ledger.reserve(ledger.data_set([b"f" * 32]), "r1", UNIT, BUDGET).fresh


@given(st.text(st.characters(), max_size=3 * LONGEST_WHY))
@example("\n")
@example("\ud800")
@example("\u202e" * LONGEST_WHY * 2)
@example("w" * LONGEST_WHY)
@example("w" * (LONGEST_WHY + 1))
def test_a_reason_is_one_printable_line_of_bounded_length(why: str) -> None:
    said = declined(1, why).why
    assert said.isprintable()
    assert len(said) == min(len(why), LONGEST_WHY)
    assert declined(1, said).why == said
    if why.isprintable():
        assert said == (why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…")


def steps(work: Callable[[], object]) -> int:
    """Lines of the client package that some work executes."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.startswith(CLIENT) else None

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def test_the_two_hundredth_decline_takes_as_many_steps_as_the_second(ledger: Ledger) -> None:
    def taken(number: int) -> list[int]:
        return [
            steps(lambda: ledger.decline(declined(number))),
            steps(lambda: ledger.reply("r1")),
            steps(ledger.entries),
        ]

    ledger.decline(declined(1))
    second = taken(2)
    for number in range(3, 200):
        ledger.decline(declined(number))
    assert taken(200) == second


@pytest.mark.parametrize("body", [{"kind": "hearsay"}, {"kind": "decline"}, {"kind": "decline", "why": "so"}])
def test_an_entry_of_an_unknown_form_is_still_refused(path: Path, ledger: Ledger, body: dict) -> None:
    with ledger._file.writing():
        ledger._file._chain.append({"time": "", "data_set": "", "subject": "r1", "content": "", **body})
    with pytest.raises(LedgerError, match="entry 1 of the ledger has an unknown form: update promptferry"):
        LedgerFile.open(at(path)).history()
