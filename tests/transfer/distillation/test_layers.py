"""Which layers a proxy has."""

import pytest

from transfer.distillation.layers import layers_of, spread
from transfer.errors import ModelError


@pytest.mark.parametrize(
    ("count", "total", "layers"),
    [
        (4, 48, (0, 1, 46, 47)),
        (2, 32, (0, 31)),
        (2, 12, (0, 11)),
        (3, 12, (0, 1, 11)),
        (1, 6, (0,)),
        (6, 6, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_layers_are_spread_as_post_spreads_them(count, total, layers):
    assert spread(count, total) == layers


@pytest.mark.parametrize("count", [0, -1, 7])
def test_more_layers_than_there_are_cannot_be_kept(count):
    with pytest.raises(ModelError, match="from a target of 6"):
        spread(count, 6)


def test_layers_are_named_by_their_number_or_their_indices():
    assert layers_of(3, 12) == (0, 1, 11)
    assert layers_of([2, 5], 6) == (2, 5)


@pytest.mark.parametrize("layers", [(1, 0), (0, 0), (0, 6), (-1,), ()])
def test_indices_ascend_and_are_there(layers):
    with pytest.raises(ModelError, match="must be ascending and among the target's 0–5"):
        layers_of(layers, 6)
