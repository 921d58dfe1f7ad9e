"""What privacy costs in time: told in the table of promises, asserted nowhere, since a test run shares its cores."""

import json
from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from client.private.noise import NoiseSource
from tests.benchmarks import ledger as ledgers
from tests.benchmarks import noise
from tests.client.ledgers import at
from tests.promises import Measured

RESULTS = Path(__file__).parent / "results"


@pytest.mark.slow
@pytest.mark.promise("noise")
def test_a_draw_of_noise_is_timed(measured: Measured) -> None:
    median, worst = noise.median_and_worst_ns(lambda: NoiseSource().integers((100, noise.DRAWS // 100)))
    measured(median_ns_a_draw=median, worst_ns_a_draw=worst)
    assert 0 < median <= worst


@pytest.mark.slow
@pytest.mark.promise("power-loss")
def test_a_commit_of_the_ledger_is_timed(tmp_path: Path, measured: Measured) -> None:
    with Ledger.create(at(tmp_path / "ledger")) as ledger:
        data_set = ledger.data_set([ledger.fingerprint("record")])
        seconds = ledgers.timed(ledger, data_set, age=0)["reserve"]
    plain = ledgers.p50_and_p99_ms(ledgers.synced(tmp_path / "plain"))
    p50, p99 = ledgers.p50_and_p99_ms(seconds)
    measured(p50_ms=p50, p99_ms=p99, one_plain_sync_p50_ms=plain[0], one_plain_sync_p99_ms=plain[1])
    assert len(seconds) == ledgers.ROUNDS


@pytest.mark.promise("overhead")
@pytest.mark.parametrize("result", sorted(RESULTS.glob("speed-*.json")), ids=lambda path: path.stem)
def test_the_committed_measurements_say_what_a_private_step_costs(result: Path, measured: Measured) -> None:
    report = json.loads(result.read_text(encoding="utf-8"))
    (stage,) = [stage for stage in report["stages"] if stage["stage"] == "tune, DP"]
    measured(private_over_plain=stage["private_over_plain"])
    assert stage["private_over_plain"] <= 1.15
