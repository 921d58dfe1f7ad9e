"""How to distil is said in words that name their field."""

from dataclasses import replace

import pytest

from tests.transfer.distillation.lessons import SHORT
from transfer.errors import UsageError
from transfer.terminal.distil_options import parse_freeze


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("both", ("embeddings", "head")),
        ("embeddings, head", ("embeddings", "head")),
        ("head", ("head",)),
        ("none", ()),
    ],
)
def test_what_to_freeze_is_said_as_the_help_says_it(said, parts):
    assert replace(SHORT, freeze=parse_freeze(said)).freeze == parts


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 0},
        {"prompted_share": 1.5},
        {"prompted_tokens": 0},
        {"precision": "fp16"},
        {"kl_at": "some"},
        {"freeze": ("body",)},
    ],
)
def test_impossible_settings_name_their_field(change):
    (name,) = change
    with pytest.raises(UsageError, match=f"distillation {name}"):
        replace(SHORT, **change)
