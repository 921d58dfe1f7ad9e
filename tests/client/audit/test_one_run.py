"""The one-run audit passes the daemon's own code and notices one that tells too much."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from client.audit import mechanism as mechanism_audit
from client.audit import one_run as one_run_audit
from client.audit.finding import Finding
from client.audit.shadow_settings import ShadowSettings
from client.ledger.ledger import Ledger
from tests.client.audit.audits import half_the_noise, no_noise, three_times_the_clip
from tests.promises import Measured
from transfer.errors import UsageError
from transfer.privacy import Budget, Spend, epsilon


def small_one_run() -> Finding:
    """μ = 1, as with the defaults, in four rounds."""
    return one_run_audit.audit(2.0, canaries=1_000, rounds=4)


def test_the_daemon_keeps_its_claim_over_canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = small_one_run()
    assert found.passed
    assert found.claimed == epsilon([Spend(2.0, 1.0, 4)], 1e-5)
    assert 0.4 < found.measured["gaussian_estimate"] / found.claimed < 1.8
    assert sum(found.curves["included"]) + sum(found.curves["excluded"]) == 1_000
    assert "a round beyond the budget was refused" in found.verdict
    assert list(tmp_path.iterdir()) == []


def test_canaries_are_heard_once_a_round_and_silence_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the scores are exactly 1 and 0: Adam, its schedule and the denominator are undone."""
    no_noise(monkeypatch)
    found = one_run_audit.audit(2.0, canaries=50, rounds=1)
    edges, inside, outside = (np.array(found.curves[name]) for name in ("edges", "included", "excluded"))
    assert edges[[0, -1]] == pytest.approx([0, 1], abs=2e-3)
    assert inside[:-1].sum() == outside[1:].sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", [half_the_noise, three_times_the_clip])
def test_a_daemon_that_tells_too_much_is_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    found = small_one_run()
    assert not found.passed
    assert "the released prompts reveal too much" in found.verdict


def test_a_ledger_that_does_not_hold_the_budget_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "covers", lambda _self, _spends: True)
    found = one_run_audit.audit(2.0, canaries=50, rounds=1)
    assert not found.passed
    assert "a round beyond it was answered" in found.verdict


def test_a_ledger_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Ledger.spends
    monkeypatch.setattr(Ledger, "spends", lambda self, data_set: whole(self, data_set)[-1:])
    found = one_run_audit.audit(2.0, canaries=50, rounds=3)
    assert not found.passed
    assert "the ledger loses spends" in found.verdict


@pytest.mark.promise("one-run-audit")
@pytest.mark.slow
def test_the_one_run_estimate_is_near_the_claim(measured: Measured) -> None:
    runs = [one_run_audit.audit() for _ in range(3)]
    for run in runs:
        estimate = run.measured["gaussian_estimate"] / run.claimed
        measured(claimed=run.claimed, proved=run.bound, estimate_over_claim=estimate, seconds=run.seconds)
    assert all(run.passed for run in runs)
    assert 0.7 <= np.median([run.measured["gaussian_estimate"] / run.claimed for run in runs]) <= 1.4


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        (lambda: mechanism_audit.audit(trials=10), "10 trials prove nothing: use at least 100"),
        (lambda: mechanism_audit.audit(0.0), "noise multiplier 0 claims no privacy"),
        (lambda: one_run_audit.audit(canaries=5), "5 canaries: the audit takes 50 to 5000"),
        (lambda: one_run_audit.audit(0.0), "noise multiplier 0 claims no privacy"),
        (lambda: ShadowSettings(shadows=2), "membership audit: shadows 2 must be ≥ 4"),
        (lambda: ShadowSettings(records=5), "membership audit: records 5 must be ≥ 20"),
    ],
)
def test_an_audit_that_could_prove_nothing_is_refused(audit, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        audit()
