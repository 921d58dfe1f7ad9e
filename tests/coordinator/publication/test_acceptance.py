"""What is published must beat every baseline on held-out public text."""

import math

import pytest

from coordinator.publication.acceptance import require_improvement
from transfer.errors import VerificationError


def test_a_prompt_that_beats_every_baseline_passes() -> None:
    require_improvement({"transferred": 0.5, "start": 0.6, "random": math.inf})


@pytest.mark.parametrize("ours", [0.6, 0.7, math.nan])
def test_the_baselines_that_are_not_beaten_are_named(ours: float) -> None:
    losses = {"start": 0.6, "transferred": ours, "random": 9.0 if ours < 1 else 0.1}
    with pytest.raises(VerificationError, match=r"transferred prompt is not below start 0\.6") as refused:
        require_improvement(losses)
    assert ("random" in str(refused.value)) == math.isnan(ours)
