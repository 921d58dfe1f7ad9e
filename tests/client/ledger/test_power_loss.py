"""A ledger on a disk that loses what was not synced still holds all that it ever acknowledged."""

import math
import random
from pathlib import Path

import pytest

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from tests.client.ledgers import at
from tests.client.volatile_disk import VolatileDisk
from tests.promises import Measured
from transfer.errors import LedgerError
from transfer.privacy import Budget, Spend

FREE, UNLIMITED = Spend(0, 1.0, 1), Budget(math.inf, 1e-6)
ROUNDS = 40


def cut_at_random(directory: Path, synchronous: str) -> list[tuple[dict[str, bytes], dict[str, bytes]]]:
    """What power cuts while rounds are answered leave on disk, each with the answers acknowledged by then."""
    directory.mkdir()
    path, dice = directory / "ledger", random.Random(1)
    with Ledger.create(at(path)) as ledger:
        data_set = ledger.data_set([ledger.fingerprint("record")])
    acknowledged: dict[str, bytes] = {}
    cuts = []

    def perhaps() -> None:
        if dice.random() < 0.3:
            cuts.append((disk.after_a_power_cut(dice), dict(acknowledged)))

    disk = VolatileDisk(directory, perhaps)
    with disk.in_use(), Ledger.open(at(path)) as ledger:
        ledger._file._connection.execute("PRAGMA wal_autocheckpoint = 20")
        ledger._file._connection.execute(f"PRAGMA synchronous = {synchronous}")
        for number in range(ROUNDS):
            assert ledger.reserve(data_set, f"r{number}", FREE, UNLIMITED).fresh
            acknowledged[f"r{number}"] = b""
            perhaps()
            ledger.store_reply(f"r{number}", dice.randbytes(3_000))
            acknowledged[f"r{number}"] = ledger.reply(f"r{number}")
            perhaps()
            ledger.decline(Declined.of(f"declined-{number}", "policy", "not allowed"))
            acknowledged[f"declined-{number}"] = b""
            perhaps()
    return cuts


def lost(files: dict[str, bytes], acknowledged: dict[str, bytes], directory: Path) -> int:
    """What was acknowledged that a ledger of these files does not hold; all if it does not open."""
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    try:
        with Ledger.open(at(directory / "ledger")) as ledger:
            known = {entry.subject for entry in [*ledger.entries(), *ledger.declines()]}
            held = {name: ledger.reply(name) if reply else b"" for name, reply in acknowledged.items()}
            return sum(name not in known or held[name] != reply for name, reply in acknowledged.items())
    except LedgerError:
        return max(1, len(acknowledged))


@pytest.mark.promise("power-loss")
def test_no_power_cut_takes_back_what_was_acknowledged(tmp_path: Path, measured: Measured) -> None:
    cuts = cut_at_random(tmp_path / "ledger", "FULL")
    missing = [lost(*cut, tmp_path / str(number)) for number, cut in enumerate(cuts)]
    measured(power_cuts=len(cuts), acknowledged_rows_lost=sum(missing))
    assert len(cuts) > 3 * ROUNDS
    assert sum(missing) == 0


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_the_same_cuts_catch_a_ledger_that_syncs_less(tmp_path: Path, synchronous: str) -> None:
    cuts = cut_at_random(tmp_path / "ledger", synchronous)
    assert any(lost(*cut, tmp_path / str(number)) for number, cut in enumerate(cuts))
