import threading
from datetime import timedelta

import pytest

from coordinator.campaigns.watch import follow, look, require_published, served
from coordinator.store.records import CampaignState, utc_now
from transfer.errors import DeadlineError, NotFoundError, PromptferryError, UnavailableError


def test_a_campaign_is_seen_with_every_round_and_every_outcome(world):
    del world.fleet.owners["cleo"]
    world.carry_out(min_clients=2, rounds=1)
    view = look(world.store, "first")
    assert view.state is CampaignState.PUBLISHED
    assert [(item.index, item.state) for item in view.rounds] == [(1, "closed")]
    assert view.rounds[0].outcomes == {"ada": "released", "ben": "released", "cleo": "offline"}


def test_a_round_that_its_campaign_left_is_not_called_open(world):
    del world.fleet.owners["cleo"]
    world.carry_out(min_clients=3, rounds=1)
    assert [(item.index, item.state) for item in look(world.store, "first").rounds] == [(1, "failed")]
    world.store.set_campaign_state("first", CampaignState.PENDING, "")
    assert [item.state for item in look(world.store, "first").rounds] == ["open"]


def test_following_shows_every_look_and_ends_with_the_campaign(world):
    world.launch()
    seen = []

    def on_view(view):
        seen.append(view.state)
        if len(seen) == 2:
            world.store.set_campaign_state("first", CampaignState.FAILED, "quorum")

    view = follow(world.store, "first", on_view)
    assert seen == [CampaignState.PENDING, CampaignState.PENDING, CampaignState.FAILED]
    resume = "`promptferry-coordinator round resume first`"
    with pytest.raises(PromptferryError, match=f"'first' failed: quorum; {resume} goes on where it stopped"):
        require_published(view)


def test_patience_that_runs_out_says_that_the_campaign_goes_on(world):
    world.launch()
    with pytest.raises(DeadlineError, match=r"still pending after 0 s.*round watch first"):
        follow(world.store, "first", lambda view: None, timeout_s=0)
    assert world.store.campaign("first").state is CampaignState.PENDING


def test_a_store_that_nobody_serves_is_told_after_the_silence(world):
    world.launch()
    with pytest.raises(UnavailableError, match="no coordinator serves this store"):
        follow(world.store, "first", lambda view: None, silence_s=0.1)
    world.store.beat(utc_now() - timedelta(seconds=60))
    with pytest.raises(UnavailableError):
        follow(world.store, "first", lambda view: None, silence_s=0.1)


def test_a_beating_store_is_followed_through_the_silence(world):
    world.launch()
    world.store.beat(utc_now())
    assert served(world.store)
    threading.Timer(0.8, world.store.set_campaign_state, ("first", CampaignState.ABORTED, "by hand")).start()
    assert follow(world.store, "first", lambda view: None, silence_s=0.1).detail == "by hand"


def test_an_unknown_campaign_is_not_found(world):
    with pytest.raises(NotFoundError, match="no campaign 'second'"):
        look(world.store, "second")
