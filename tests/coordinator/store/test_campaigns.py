"""Campaigns in the store, with their rounds."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from alembic import command

from coordinator.store.migrations import config
from coordinator.store.records import CampaignState, ReplyRecord, RoundState
from coordinator.store.store import Store
from tests.coordinator.store.stores import hear, stands
from transfer.errors import (
    AlreadyExistsError,
    NotFoundError,
    UsageError,
)


def test_campaigns_are_claimed_once_and_oldest_first(store: Store) -> None:
    for name in ("one", "two"):
        store.add_campaign(name, '{"rounds": 3}')
    with pytest.raises(AlreadyExistsError):
        store.add_campaign("one", "{}")

    claimed = [store.claim_campaign() for _ in range(3)]

    assert [campaign and (campaign.name, campaign.state) for campaign in claimed] == [
        ("one", CampaignState.RUNNING),
        ("two", CampaignState.RUNNING),
        None,
    ]


def test_of_many_threads_one_claims_a_campaign(store: Store) -> None:
    for index in range(4):
        store.add_campaign(f"campaign-{index}", "{}")
    with ThreadPoolExecutor(12) as pool:
        claimed = list(pool.map(lambda _: store.claim_campaign(), range(12)))

    assert sorted(campaign.name for campaign in claimed if campaign) == [f"campaign-{i}" for i in range(4)]


def test_a_campaign_remembers_state_and_detail(store: Store) -> None:
    store.add_campaign("one", "{}")
    store.set_campaign_state("one", CampaignState.FAILED, "quorum: 1 of 3")

    campaign = store.campaign("one")
    assert (campaign.state, campaign.detail, campaign.plan) == (CampaignState.FAILED, "quorum: 1 of 3", "{}")
    assert campaign.update_time >= campaign.create_time
    assert store.campaigns() == [campaign]
    with pytest.raises(NotFoundError, match="no campaign 'two'"):
        store.set_campaign_state("two", CampaignState.ABORTED)


def test_a_round_that_is_opened_or_closed_again_stays_as_it_was(store: Store) -> None:
    store.add_campaign("one", "{}")
    library = ("prompts/one/versions/1", "prompts/two/versions/3")
    opened = store.open_round("one", 1, b"start", b"roster", b"directions", library)
    assert opened.library == library
    assert (opened.roster, opened.subspace) == (b"roster", b"directions")
    assert store.open_round("one", 1, b"start", b"other roster", b"other directions") == opened
    with pytest.raises(AlreadyExistsError, match="opened on another prompt"):
        store.open_round("one", 1, b"other", b"roster")

    closed = store.finish_round("one", 1, lambda replies: (b"end", {}))
    assert closed.state is RoundState.CLOSED
    assert store.finish_round("one", 1, lambda replies: (b"other", {})) == closed
    assert store.rounds("one") == [closed]
    with pytest.raises(NotFoundError, match="no campaign 'two'"):
        store.open_round("two", 1, b"start", b"roster")
    with pytest.raises(NotFoundError, match="has no round 2"):
        store.finish_round("one", 2, lambda replies: (b"end", {}))


def test_a_round_closes_with_exactly_what_stands_at_that_moment(opened: Store) -> None:
    hear(opened, "released", b"release")
    seen: list[str] = []
    reasons: list[str] = []

    def late() -> None:
        reasons.append(opened.record_reply("one", 1, "clinic-b", "released", b"release of b").reason)

    writer = threading.Thread(target=late)

    def close(replies: Sequence[ReplyRecord]) -> tuple[bytes, dict[str, str]]:
        writer.start()
        writer.join(0.3)
        seen.extend(reply.client for reply in replies)
        return b"end", {}

    opened.finish_round("one", 1, close)
    writer.join()
    assert (seen, reasons) == (["clinic-a"], ["the round was closed"])
    assert stands(opened) == [("clinic-a", "released", b"release")]


def test_a_round_that_cannot_be_closed_stays_open(opened: Store) -> None:
    def fail(replies: object) -> tuple[bytes, dict[str, str]]:
        raise UsageError("too few")

    with pytest.raises(UsageError, match="too few"):
        opened.finish_round("one", 1, fail)
    assert opened.rounds("one")[0].state is RoundState.OPEN
    assert hear(opened, "released", b"release") == ""


def test_a_round_from_before_rosters_has_nobody_on_its_own(url: str) -> None:
    with closing(Store.open(url)) as store:
        store.add_campaign("one", "{}")
        store.open_round("one", 1, b"start", b"roster")
        with store._database.writing() as session:
            command.downgrade(config(session.connection()), "0002")
    with closing(Store.open(url)) as store:
        assert [item.roster for item in store.rounds("one")] == [b""]
