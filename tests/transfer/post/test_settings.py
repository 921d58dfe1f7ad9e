"""How to transfer is said in words that name their field."""

from dataclasses import replace

import pytest

from tests.transfer.post.transfers import QUICK
from transfer.errors import UsageError


@pytest.mark.parametrize(
    "change",
    [
        *({"alpha": value} for value in (-0.1, 1.1, float("nan"), "agreed", "0.5")),
        *({"temperature": value} for value in (0.0, -1.0, float("inf"), float("nan"))),
        *({"held_out": value} for value in (0.0, 1.0)),
        *({"learning_rate": value} for value in (0.0, float("nan"))),
        {"steps": -1},
        {"batch_size": 0},
        {"check_every": 0},
        {"formats": 0},
        {"space": "vocab"},
        {"start": "projection"},
    ],
)
def test_impossible_settings_name_their_field(change):
    (name,) = change
    with pytest.raises(UsageError, match=f"transfer {name}"):
        replace(QUICK, **change)
