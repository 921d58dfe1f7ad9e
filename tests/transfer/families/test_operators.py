"""It is noticed where the shape of anything depends on values."""

import pytest
import torch

from transfer.families.operators import Operators

NUMBERS = torch.tensor([3.0, 0.0, 1.0])


@pytest.mark.parametrize(
    "run", [torch.nonzero, torch.unique, lambda x: x[x > 0], lambda x: x.masked_select(x > 0)]
)
def test_a_shape_that_values_decide_is_noticed(run: object) -> None:
    with Operators() as seen:
        run(NUMBERS)  # type: ignore[operator]
    assert seen.shaped_by_values


def test_ordinary_arithmetic_and_indices_are_not() -> None:
    with Operators() as seen:
        (NUMBERS * 2)[torch.tensor([0, 2])].sum().exp()
    assert not seen.shaped_by_values
