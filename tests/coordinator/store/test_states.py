import itertools

import pytest

from coordinator.store.records import CampaignState
from coordinator.store.states import ACTIVE, ENDED, FOLLOWS, allowed, check
from transfer.errors import UsageError

ABORTED, FAILED, PENDING, PUBLISHED, RUNNING, TRANSFERRING = (
    CampaignState.ABORTED,
    CampaignState.FAILED,
    CampaignState.PENDING,
    CampaignState.PUBLISHED,
    CampaignState.RUNNING,
    CampaignState.TRANSFERRING,
)


def test_every_state_has_its_row_in_the_table():
    assert FOLLOWS.keys() == set(CampaignState)


def test_a_campaign_that_goes_well_passes_every_working_state():
    for current, following in itertools.pairwise([PENDING, RUNNING, TRANSFERRING, PUBLISHED]):
        check("c", current, following)


@pytest.mark.parametrize("state", [PENDING, RUNNING, TRANSFERRING])
def test_every_unfinished_campaign_can_fail_and_be_aborted(state):
    check("c", state, FAILED)
    check("c", state, ABORTED)


@pytest.mark.parametrize("state", [FAILED, ABORTED])
def test_only_a_new_start_leads_out_of_failure(state):
    assert [other for other in CampaignState if allowed(state, other) and other is not state] == [PENDING]


def test_nothing_follows_a_publication():
    for state in set(CampaignState) - {PUBLISHED}:
        with pytest.raises(UsageError, match=f"'c' is PUBLISHED and cannot become {state.name}.*nothing"):
            check("c", PUBLISHED, state)


def test_no_prompt_is_published_without_having_been_transferred():
    assert [state for state in CampaignState if allowed(state, PUBLISHED)] == [TRANSFERRING, PUBLISHED]


def test_progress_is_a_state_that_follows_itself():
    assert all(allowed(state, state) for state in CampaignState)


def test_an_active_campaign_has_not_ended():
    assert not ACTIVE & ENDED
    assert {PENDING} | ACTIVE | ENDED == set(CampaignState)
