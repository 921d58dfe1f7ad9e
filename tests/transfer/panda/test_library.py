"""Which prompts of a library may be asked, and which are worth it."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.panda.libraries import (
    PRIVATE,
    PUBLIC,
    consult,
    noise,
    record,
)
from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.panda.library import NULL, Comparison, Scores, shortlist


def test_what_is_not_eligible_is_listed_with_its_reason_and_never_measured(new):
    named = {
        "without privacy": {"guarantee": PUBLIC},
        "another target": {"prompt": noise(ModelRef("elsewhere", "e" * 64), 1)},
        "this very campaign": {"cohorts": ("first", "other")},
    }
    records = [record(new, name, **changes) for name, changes in named.items()]
    choice = consult(new, records)
    null, *listed = choice.candidates
    assert (null.name, null.obstacle) == (NULL, None)
    for item in listed:
        assert item.name in item.obstacle
        assert (item.scores, item.probe) == (None, ())


def test_a_release_without_privacy_may_use_any_prompt(new):
    public = record(new, guarantee=PUBLIC)
    assert public.obstacle(new.target.ref, "first", PRIVATE)
    assert public.obstacle(new.target.ref, "first", PUBLIC) is None
    assert record(new).obstacle(new.target.ref, "first", PRIVATE) is None


def test_a_record_needs_a_cohort_and_no_name_of_the_null_candidate(new):
    for changes in ({"name": NULL}, {"cohorts": ()}):
        with pytest.raises(UsageError, match="at least one cohort"):
            replace(record(new), **changes)


def test_a_short_list_is_by_mean_rank_over_the_scores_there_are():
    scores = {
        "second": Scores(0.5, 0.5, -2.0, None, 1.0),
        "first": Scores(0.9, 0.9, -1.0, 0.1, -1.0),
        "third": Scores(None, 0.1, -3.0, None, 1.0),
    }
    assert shortlist(scores) == ["first", "second", "third"]


def test_a_difference_must_exceed_its_standard_error():
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    gains = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    found = Comparison.of(losses, losses - gains)
    assert (found.difference, found.error) == (0.5, pytest.approx(0.5))
    assert not found.won
    assert Comparison.of(losses, losses - gains - 0.01).won
    assert not Comparison.of(losses, losses).won
