"""Two ways to compute the same numbers agree as far as their precision goes."""

import math

import pytest
import torch

from transfer.families.closeness import close, distance

ONES = torch.ones(3)


@pytest.mark.parametrize(
    ("ours", "far"), [(ONES, 0.0), (ONES * 1.5, 0.5), (torch.ones(2), math.inf), (ONES * math.inf, math.inf)]
)
def test_distance_is_a_share_of_the_largest_number(ours: torch.Tensor, far: float) -> None:
    assert distance(ours, ONES) == far


def test_a_number_that_is_none_is_close_to_nothing() -> None:
    assert math.isnan(distance(ONES * math.nan, ONES))
    assert not close(ONES * math.nan, ONES, torch.float32)


def test_fewer_bits_may_differ_by_more() -> None:
    assert not close(ONES * 1.01, ONES, torch.float32)
    assert close(ONES * 1.01, ONES, torch.bfloat16)
