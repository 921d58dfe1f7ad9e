"""A campaign may start from what published prompts have in common, and then their costs are its own as well."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coordinator.publication.publish import transfer_and_publish, verified_predicate
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import CampaignState
from tests.coordinator.campaigns.campaigns import start_of
from transfer.errors import VerificationError
from transfer.panda import reptile
from transfer.privacy import Spend

NAME = "prompts/tiny-prompt/versions/1"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(reptile, "MOVES", 2)


def told(world, prompt):
    return verified_predicate(world.store.prompt_version(prompt), world.identity)


def started(world, name, **changes):
    """Carry out a campaign that starts from the library, and publish under its own name."""
    publish = replace(world.plan.publish, prompt=name)
    return world.carry_out(
        name=name, publish=publish, start=replace(world.plan.start, init="library", **changes)
    )


def test_a_start_of_the_library_is_signed_with_the_costs_of_those_behind_it(world):
    assert world.carry_out().state is CampaignState.PUBLISHED
    campaign = started(world, "second")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert world.store.rounds("second")[0].library == (NAME,)
    assert world.store.rounds("second")[1].library == ()
    assert not torch.equal(world.fleet.owners["ada"].requests[-2].prompt.vectors, start_of(world))
    before, after = told(world, "tiny-prompt"), told(world, "second")
    start = after["lineage"]["start"]
    assert [item["prompt"] for item in start["learnt_from"]] == [NAME]
    assert [item["campaign"] for item in start["cohorts"]] == ["first"]
    assert after["privacy"]["epsilon"] == pytest.approx(2 * before["privacy"]["epsilon"])
    assert "learnt_from" not in before["lineage"]["start"]


def test_who_learns_from_such_a_prompt_pays_for_all_that_are_behind_it(world):
    world.carry_out()
    started(world, "second")
    world.carry_out(name="third", publish=replace(world.plan.publish, prompt="third"), library="second")
    cohorts = told(world, "third")["lineage"]["library"]["cohorts"]
    assert {item["campaign"] for item in cohorts} == {"first", "second"}


def test_without_a_prompt_to_start_from_no_client_is_asked(world):
    campaign = started(world, "second")
    assert campaign.state is CampaignState.FAILED
    assert 'init "library": no published prompt of this proxy' in campaign.detail
    assert world.fleet.asked == []


def test_a_prompt_of_another_length_or_without_its_own_text_starts_nothing(world):
    world.carry_out()
    asked = len(world.fleet.asked)
    assert "no published prompt" in started(world, "second", length=3).detail
    Path(world.plan.public_text).write_text("".join(f"Another sentence {n}.\n" for n in range(48)))
    assert "no published prompt" in started(world, "third").detail
    assert len(world.fleet.asked) == asked


def test_a_version_that_may_not_be_used_hides_no_other_and_a_campaign_teaches_once(world):
    world.carry_out()
    free = replace(world.plan.tuning, spend=Spend(0.0, 1.0, 5))
    assert world.carry_out(name="free", tuning=free).state is CampaignState.PUBLISHED  # version 2
    plan = replace(world.plan, publish=replace(world.plan.publish, prompt="copy"))
    transfer_and_publish(world.store, world.identity, plan, world.target)
    started(world, "second")
    assert world.store.rounds("second")[0].library == ("prompts/copy/versions/1",)


def test_a_store_that_lost_the_names_of_those_behind_a_start_publishes_nothing(world):
    world.carry_out()
    started(world, "second")
    plan = CampaignPlan.from_json(world.store.campaign("second").plan)
    with closing(sqlite3.connect(world.directory / "store.db")) as raw, raw:
        raw.execute("UPDATE rounds SET library = NULL")
    with pytest.raises(VerificationError, match="no longer names the prompts that taught its start"):
        transfer_and_publish(world.store, world.identity, plan, world.target)
    assert [version.version for version in world.store.prompt_versions("second")] == [1]


def test_a_prompt_that_is_revoked_since_is_still_named_by_what_started_from_it(world):
    world.carry_out()
    ada, answer = world.fleet.owners["ada"], world.fleet.owners["ada"].answer

    def revoking(*given):
        if world.store.prompt_version("tiny-prompt", 1).state == "published":
            world.store.set_prompt_state("tiny-prompt", 1, "revoked")
        return answer(*given)

    ada.answer = revoking
    assert started(world, "second").state is CampaignState.PUBLISHED
    assert [item["prompt"] for item in told(world, "second")["lineage"]["start"]["learnt_from"]] == [NAME]
