"""Killed at any moment, raced by others or out of disk, the ledger never knows less than was released."""

import math
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import client
from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from tests.client.ledgers import at
from transfer.errors import BudgetRefusedError, LedgerError
from transfer.privacy import Budget, Spend, epsilon

FREE = Spend(0, 1.0, 1)
UNLIMITED = Budget(math.inf, 1e-6)
UNIT = Spend(0.05, 1.0, 1)
"""So little noise that ε is above 100, where it is quick to compute."""
CLIENT = str(Path(client.__file__).parent)


def fork(work: Callable[[], None]) -> int:
    """Process id of a child of this process that does `work` and exits with 0, or with 1 if it raises."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Owner:
    """A client that releases one reply after another; a file stands for the network."""

    def __init__(self, directory: Path, write_ahead: bool = True) -> None:
        directory.mkdir()
        self.ledger = directory / "ledger"
        self.released = directory / "released"
        self.released.touch()
        self.write_ahead = write_ahead
        with Ledger.create(at(self.ledger)) as ledger:
            self.data_set = ledger.data_set([ledger.fingerprint("record")])

    def answer(self, ledger: Ledger, name: str) -> None:
        if not self.write_ahead:
            self.release(name)
        reservation = ledger.reserve(self.data_set, name, FREE, UNLIMITED)
        if reservation.fresh:
            ledger.store_reply(name, os.urandom(16) + name.encode())
        if self.write_ahead and ledger.reply(name) is not None:
            self.release(name)

    def decline(self, ledger: Ledger, name: str) -> None:
        if self.write_ahead:
            ledger.decline(Declined.of(name, "policy", "not allowed"))
        self.release(name)
        if not self.write_ahead:
            ledger.decline(Declined.of(name, "policy", "not allowed"))

    def release(self, name: str) -> None:
        with self.released.open("ab", buffering=0) as file:
            file.write(name.encode() + b"\n")

    def answer_for_ever(self) -> None:
        with Ledger.open(at(self.ledger)) as ledger:
            start = ledger.head()[0]
            for number in range(10**6):
                self.answer(ledger, f"r{start}-{number}")
                self.decline(ledger, f"declined-{start}-{number}")

    def violations(self) -> int:
        """Answers the ledger does not know of or could not give again; it must open and hold together."""
        with Ledger.open(at(self.ledger)) as ledger:
            ledger.verify()
            rows = {entry.subject for entry in ledger.entries() if entry.spend}
            assert not any(ledger.reserve(self.data_set, name, FREE, UNLIMITED).fresh for name in rows)
            kept = {name for name in rows if ledger.reply(name) is not None}
            kept |= {entry.subject for entry in ledger.declines()}
            return len(set(self.released.read_text().split()) - kept)


def kill_at_random(directory: Path, kills: int, write_ahead: bool) -> int:
    owner = Owner(directory, write_ahead)
    dice = random.Random(directory.name)
    violations = 0
    for _ in range(kills):
        before = owner.released.stat().st_size
        child = fork(owner.answer_for_ever)
        while owner.released.stat().st_size == before:
            time.sleep(0.0005)
        time.sleep(dice.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        assert wait(child) == -signal.SIGKILL
        violations = owner.violations()
    return violations


def killed_after(lines: int, work: Callable[[], None]) -> int:
    """Kills a child when it has executed so many lines of the client package; returns its exit status."""

    def traced() -> None:
        left = lines

        def count(frame, event, argument):
            nonlocal left
            if not frame.f_code.co_filename.startswith(CLIENT):
                return None
            left -= event == "line"
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        sys.settrace(count)
        work()

    return wait(fork(traced))


def kill_at_lines(directory: Path, step: int, write_ahead: bool) -> tuple[int, int]:
    """Kills at every `step`-th line of opening a ledger, declining a round and answering one: (kills, violations)."""
    directory.mkdir()
    violations = 0
    for kills, lines in enumerate(range(1, 10_000, step)):
        owner = Owner(directory / str(lines), write_ahead)

        def work(owner: Owner = owner) -> None:
            with Ledger.open(at(owner.ledger)) as ledger:
                owner.decline(ledger, "declined")
                owner.answer(ledger, "r1")

        if killed_after(lines, work) == 0:
            return kills, violations
        violations += owner.violations()
    raise AssertionError("the work never ended")


def test_twenty_kills_at_random_moments_lose_no_released_round(tmp_path: Path):
    assert kill_at_random(tmp_path / "ahead", 20, write_ahead=True) == 0


@pytest.mark.slow
def test_kills_all_along_an_answer_lose_no_released_round(tmp_path: Path):
    kills, violations = kill_at_lines(tmp_path / "ahead", 19, write_ahead=True)
    assert kills > 15
    assert violations == 0


@pytest.mark.promise("write-ahead", "mechanism-audit")
def test_the_same_kills_catch_a_ledger_written_behind(tmp_path: Path):
    assert kill_at_lines(tmp_path / "behind", 37, write_ahead=False)[1] > 0


@pytest.mark.promise("write-ahead")
@pytest.mark.slow
def test_three_hundred_kills_at_random_moments_lose_no_released_round(tmp_path: Path, measured):
    lost = sum(kill_at_random(tmp_path / f"ahead{n}", 20, write_ahead=True) for n in range(15))
    measured(kills=15 * 20, lost=lost)
    assert lost == 0
    assert sum(kill_at_random(tmp_path / f"behind{n}", 20, write_ahead=False) for n in range(5)) > 0


@pytest.mark.promise("write-ahead")
@pytest.mark.slow
def test_a_kill_at_every_line_loses_no_released_round(tmp_path: Path, measured):
    kills, violations = kill_at_lines(tmp_path / "ahead", 1, write_ahead=True)
    measured(kills=kills, lost=violations)
    assert kills > 200
    assert violations == 0


def test_a_reservation_without_a_reply_after_a_crash_is_spent_and_never_fresh(tmp_path: Path):
    owner = Owner(tmp_path / "owner")

    def crash() -> None:
        with Ledger.open(at(owner.ledger)) as ledger:
            assert ledger.reserve(owner.data_set, "r1", FREE, UNLIMITED).fresh
            os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(crash)) == -signal.SIGKILL
    for _ in range(2):
        with Ledger.open(at(owner.ledger)) as ledger:
            again = ledger.reserve(owner.data_set, "r1", FREE, UNLIMITED)
            assert (again.fresh, again.reply) == (False, None)
            assert ledger.spends(owner.data_set) == [FREE]


REQUEST = "ab" * 32


class Stopping(Owner):
    """An owner who stops the first try of a round, and answers it after the next start; each try leaves a line."""

    def answer(self, ledger: Ledger, name: str, *, stop: bool = False) -> None:
        if ledger.reply(name) is None and not ledger.is_over(name, REQUEST):
            assert ledger.reserve(self.data_set, name, FREE, UNLIMITED, REQUEST).fresh
            self.tries.write_text(self.tries.read_text() + "try\n")
            if stop:
                return ledger.stop(name)
            ledger.store_reply(name, os.urandom(16))
        if (reply := ledger.reply(name)) is not None:
            self.release(reply.hex())
        return None

    @property
    def tries(self) -> Path:
        return self.ledger.with_name("tries")

    def work(self) -> None:
        for stop in (True, False):
            with Ledger.open(at(self.ledger)) as ledger:
                self.answer(ledger, "r1", stop=stop)


@pytest.mark.slow
def test_kills_all_along_a_round_that_is_stopped_and_answered_later_let_one_reply_out(tmp_path: Path):
    kills = answered = 0
    for lines in range(1, 10_000, 19):
        owner = Stopping(tmp_path / str(lines))
        owner.tries.touch()
        ended = killed_after(lines, owner.work) == 0
        for _ in range(2):
            with Ledger.open(at(owner.ledger)) as ledger:
                owner.answer(ledger, "r1")
                kinds = [entry.kind.value for entry in ledger.entries()]
                assert ledger.spends(owner.data_set) == [FREE]
        released = set(owner.released.read_text().split())
        assert len(released) <= 1
        # a try that was killed is the last, so that no release hangs on how tries end
        assert len(owner.tries.read_text().split()) <= kinds.count("spend") + kinds.count("again")
        assert kinds.count("spend") + kinds.count("again") - kinds.count("stop") == 1
        answered += len(released)
        if ended:
            break
        kills += 1
    assert kills > 15
    assert kills > answered > 0


def race(directory: Path, processes: int, units: int) -> list[str]:
    """Rounds granted to processes that each ask for more than the budget of so many units."""
    owner = Owner(directory)
    budget = Budget(epsilon([UNIT] * units, 1e-6) * (1 + 1e-9), 1e-6)
    epsilon([UNIT] * (units + 1), 1e-6)  # children inherit what is computed, so that they meet at the lock

    def spend(process: int) -> None:
        with Ledger.open(at(owner.ledger)) as ledger:
            for number in range(units):
                try:
                    name = f"r{process}-{number}"
                    assert ledger.reserve(owner.data_set, name, UNIT, budget).fresh
                    owner.release(name)
                except BudgetRefusedError:
                    return

    children = [fork(lambda process=process: spend(process)) for process in range(processes)]
    assert [wait(child) for child in children] == [0] * processes
    with Ledger.open(at(owner.ledger)) as ledger:
        assert ledger.spends(owner.data_set) == [UNIT] * units
    return owner.released.read_text().split()


def test_four_racing_processes_are_granted_the_budget_exactly(tmp_path: Path):
    for repeat in range(3):
        assert len(race(tmp_path / str(repeat), processes=4, units=10)) == 10


@pytest.mark.promise("budget")
@pytest.mark.slow
def test_fifty_races_for_two_hundred_units_are_granted_exactly(tmp_path: Path, measured):
    for repeat in range(50):
        granted = len(race(tmp_path / str(repeat), processes=4, units=200))
        measured(granted=granted)
        assert granted == 200


def test_processes_that_register_overlapping_files_at_once_agree_on_one_data_set(tmp_path: Path):
    owner = Owner(tmp_path / "owner")

    def register(process: int) -> None:
        with Ledger.open(at(owner.ledger)) as ledger:
            for number in range(5):
                texts = [f"{process}-{number}", f"{process}-{number + 1}", "shared"]
                ledger.data_set(ledger.fingerprint(text) for text in texts)

    children = [fork(lambda process=process: register(process)) for process in range(4)]
    assert [wait(child) for child in children] == [0] * 4
    with Ledger.open(at(owner.ledger)) as ledger:
        assert len(ledger.data_sets()) == 2
        assert ledger.data_set([ledger.fingerprint("0-0")]) == ledger.data_set([ledger.fingerprint("3-5")])


@pytest.mark.parametrize("room", [0, 100, 5_000, 20_000])
def test_a_full_disk_grants_nothing_and_the_same_ledger_goes_on_when_there_is_room(tmp_path: Path, room: int):
    owner = Owner(tmp_path / "owner")

    def answer_all(ledger: Ledger) -> None:
        for number in range(1000):
            owner.answer(ledger, f"r{number}")
            owner.decline(ledger, f"declined-{number}")

    def fill_and_make_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Ledger.open(at(owner.ledger)) as ledger:
            limit, hard = owner.ledger.stat().st_size + room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(LedgerError):
                answer_all(ledger)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            owner.answer(ledger, "after")
            ledger.verify()

    assert wait(fork(fill_and_make_room)) == 0
    assert owner.violations() == 0
    with Ledger.open(at(owner.ledger)) as ledger:
        assert ledger.reply("after") is not None
