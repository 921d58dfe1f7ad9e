"""A coordinator killed at any moment finishes its campaigns as if nothing had been."""

from dataclasses import replace

import pytest
import torch

from coordinator.store.records import CampaignState
from coordinator.store.store import Store
from transfer.protocol import round_wire
from transfer.protocol.rounds import round_name


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


class MortalStore(Store):
    """A store whose process dies before or after its n-th change."""

    left = 10**9
    before = False
    CHANGES = (
        "set_campaign_state",
        "open_round",
        "record_reply",
        "finish_round",
        "publish",
        "claim_campaign",
    )

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in MortalStore.CHANGES:
            return found

        def mortal(*args, **kwargs):
            if args and str(args[-1]).startswith(
                "transfer: step"
            ):  # noted every few seconds: how often, time decides
                return found(*args, **kwargs)
            self.left -= 1
            if self.left == 0 and self.before:
                raise Killed
            result = found(*args, **kwargs)
            if self.left == 0:
                raise Killed
            return result

        return mortal


def changes_of_a_whole_campaign(world, changes):
    store = MortalStore(world.store._database)
    world.launch(name="whole", **changes)
    world.go_on("whole", store)
    return 10**9 - store.left, world.prompt("whole", 2)


def die_and_recover(world, name, number, before, changes):
    """Carry a campaign out with a process that dies at its change `number`, then with one that lives."""
    store = MortalStore(world.store._database)
    store.left, store.before = number, before
    world.launch(name=name, publish=replace(world.plan.publish, prompt=name), **changes)
    with pytest.raises(Killed):
        world.go_on(name, store)
    campaign = world.go_on(name) if world.store.campaign(name).state is not CampaignState.PUBLISHED else None
    return campaign or world.store.campaign(name)


def check_deaths(world, numbers, **changes):
    total, expected = changes_of_a_whole_campaign(world, changes)
    for number in numbers(total):
        for before in (True, False):
            name = f"killed-{number}-{'before' if before else 'after'}"
            for owner in world.fleet.owners.values():
                owner.requests.clear()
            assert die_and_recover(world, name, number, before, changes).state is CampaignState.PUBLISHED
            assert torch.equal(world.prompt(name, 2), expected), name
            assert len(world.store.prompt_versions(name)) == 1, name
            check_questions(world, name)


def check_questions(world, name):
    """Whoever was asked a round again was asked the very same."""
    for owner in world.fleet.owners.values():
        for index in (1, 2):
            asked = {
                round_wire.request_to_bytes(item)
                for item in owner.requests
                if item.round == round_name(name, index)
            }
            assert len(asked) == 1, name


def test_a_killed_coordinator_finishes_the_campaign_as_if_nothing_had_been(world):
    check_deaths(world, lambda total: (4, total // 2, total - 1))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam"])
def test_a_server_optimiser_remembers_nothing_that_a_kill_could_take(world, strategy):
    check_deaths(world, lambda total: (total // 2 + 1, total - 4), strategy=strategy)


@pytest.mark.slow
def test_no_change_of_the_store_is_a_bad_moment_to_be_killed_at(world):
    check_deaths(world, lambda total: range(1, total + 1))
