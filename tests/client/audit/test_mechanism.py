"""The mechanism audit passes what is right and notices what is not."""

import numpy as np
import pytest

from client.audit import mechanism as mechanism_audit
from client.audit.finding import Finding
from client.private.noise import NoiseSource
from tests.client.audit.audits import half_the_noise, no_noise, three_times_the_clip
from tests.promises import Measured
from transfer.privacy import Spend, epsilon


def small_mechanism() -> Finding:
    return mechanism_audit.audit(trials=1_500)


@pytest.mark.slow
def test_the_mechanism_keeps_its_claim() -> None:
    seen: list[tuple[int, int]] = []
    found = mechanism_audit.audit(trials=1_500, on_step=lambda *step: seen.append(step))
    assert found.passed
    assert found.claimed == epsilon([Spend(1.0, 1.0, 1)], 1e-5)
    assert 0 < found.bound <= found.claimed
    assert "no more about a record than is claimed" in found.verdict
    assert seen == [(done, 3_000) for done in range(0, 3_000, 500)]


@pytest.mark.promise("mechanism-audit")
@pytest.mark.slow
def test_what_the_mechanism_audit_proves_is_most_of_the_claim(measured: Measured) -> None:
    found = mechanism_audit.audit()
    measured(claimed=found.claimed, proved=found.bound, share=found.measured["share_of_claim"])
    assert found.passed
    assert found.measured["share_of_claim"] >= 0.75


@pytest.mark.promise("mechanism-audit")
@pytest.mark.parametrize(
    "fault",
    [
        no_noise,
        *(pytest.param(fault, marks=pytest.mark.slow) for fault in (half_the_noise, three_times_the_clip)),
    ],
)
def test_a_wrong_mechanism_is_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    found = small_mechanism()
    assert not found.passed
    assert "reveals too much about a record" in found.verdict


@pytest.mark.slow
def test_noise_that_is_used_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, kept = NoiseSource.integers, []

    def twice(self: NoiseSource, shape: tuple[int, ...]) -> np.ndarray:
        if kept:
            return kept.pop()
        kept.append(drawn(self, shape))
        return kept[0]

    monkeypatch.setattr(NoiseSource, "integers", twice)
    found = small_mechanism()
    assert found.bound <= found.claimed
    assert not found.passed
    assert "the noise of one step predicts that of the next" in found.verdict
