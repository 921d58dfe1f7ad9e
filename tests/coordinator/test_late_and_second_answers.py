"""No campaign is lost to an answer that came late, twice, or after another one; only the network is left out."""

import logging
import threading
from dataclasses import dataclass, field, replace

import pytest
import torch

from client.rounds.participant import Participant
from client.rounds.proxies import Proxies
from coordinator.campaigns.runner import Runner
from coordinator.campaigns.watch import look
from coordinator.rounds.fleet import Outcome
from coordinator.store.records import CampaignState, RoundState
from coordinator.store.store import Store
from tests.coordinator.conftest import InProcessFleet
from tests.coordinator.test_campaigns_that_protect_users import DataOwner
from transfer.privacy import Spend
from transfer.protocol.rounds import Decline, Refusal, Tuning

TUNING = Tuning(Spend(1.5, 0.5, 3), clip_norm=0.5, learning_rate=0.05)


@pytest.fixture
def owners(world):
    """Three owners with a policy, a ledger and a file of their own, in place of the world's."""
    for name in list(world.fleet.owners):
        world.store.revoke(name)
    world.fleet.owners.clear()
    made = {name: DataOwner.enrolled(world, name, "record") for name in ("dora", "emil", "fay")}
    world.fleet.owners.update(made)
    yield made
    for owner in made.values():
        owner.ledger.close()


def restarted(owner, *, parts=None, **changes):
    """Start the owner's daemon again, with some rules of its policy changed and some of its parts replaced."""
    before = owner.participant
    proxies, data = Proxies(owner.directory / "proxies"), owner.directory / "train.jsonl"
    limits = replace(before._limits, **changes)
    owner.participant = Participant(before._identity, limits, owner.ledger, proxies, data, **(parts or {}))


def resumed(world, name="first"):
    """What `round resume` and then the serving process do."""
    world.store.set_campaign_state(name, CampaignState.PENDING, "resumed by the operator")
    return world.go_on(name)


def lines(world, index, name="first"):
    return look(world.store, name).rounds[index - 1].lines


@pytest.mark.slow
def test_an_owner_who_widens_the_policy_takes_part_in_the_round_that_failed_for_it(world, owners):
    restarted(owners["fay"], tasks=("another",))
    campaign = world.carry_out(tuning=TUNING)
    assert campaign.state is CampaignState.FAILED
    assert "fay: declined: policy" in campaign.detail
    restarted(owners["fay"], tasks=("*",))
    campaign = resumed(world)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert world.fleet.asked == [["dora", "emil", "fay"], ["fay"], ["dora", "emil", "fay"]]
    assert world.outcomes("first", 1) == dict.fromkeys(owners, "released")
    for owner in owners.values():
        (data_set,) = owner.ledger.data_sets()
        assert owner.ledger.spends(data_set) == [TUNING.spend] * 2


def test_a_client_stopped_in_mid_round_and_asked_again_after_a_restart_fails_nobody(world, owners):
    emil, stop = owners["emil"], threading.Event()

    def stopped(*_, on_step, **__):
        stop.set()
        world.stop.set()  # the coordinator goes down as well, with fay still to be asked
        on_step(1, TUNING.spend.steps)

    restarted(emil, parts={"tune": stopped, "stop": stop})
    assert world.carry_out(tuning=TUNING, min_clients=2).state is CampaignState.RUNNING
    assert world.outcomes("first", 1) == {"dora": "released", "emil": "declined: failed"}
    restarted(emil)
    world.stop.clear()
    campaign = world.go_on("first")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert world.outcomes("first", 1) == dict.fromkeys(owners, "released")  # its stopped round is tuned again
    assert world.outcomes("first", 2) == dict.fromkeys(owners, "released")


def test_an_honest_reply_after_an_invalid_one_counts(world):
    world.fleet.owners["ben"].forge = lambda owner, request: b"junk"
    assert "ben: invalid" in world.carry_out().detail
    world.fleet.owners["ben"].forge = None
    assert resumed(world).state is CampaignState.PUBLISHED
    assert world.outcomes("first", 1)["ben"] == "released"


@pytest.mark.slow
def test_a_reply_that_is_late_for_a_round_that_failed_counts_when_it_is_resumed(world):
    world.fleet.slow = {"cleo"}
    campaign = world.carry_out()
    assert "cleo: timeout" in campaign.detail
    world.fleet.listen()
    world.fleet.slow = set()
    assert resumed(world).state is CampaignState.PUBLISHED
    assert world.fleet.asked == [["ada", "ben", "cleo"], [], ["ada", "ben", "cleo"]]


def test_a_reply_that_is_late_for_a_closed_round_is_told_and_counts_nowhere(world, caplog):
    caplog.set_level(logging.WARNING)
    world.carry_out(name="without", min_clients=2, rounds=1)
    world.fleet.slow = {"cleo"}
    campaign = world.carry_out(min_clients=2)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    world.fleet.listen()
    told = "cleo", "released, not counted: the round was closed"
    for index in (1, 2):
        assert told in lines(world, index)
        assert f"campaigns/first/rounds/{index}: cleo: {told[1]}" in caplog.text
        assert world.outcomes("first", index) == {"ada": "released", "ben": "released", "cleo": "timeout"}
    assert not torch.equal(world.prompt("first", 1), world.prompt("without", 1))


def test_a_runner_with_nothing_to_do_listens_for_late_replies(world):
    heard = threading.Event()
    world.fleet.late.append(heard.set)
    work = threading.Thread(target=world.runner().run, args=(0.01,))
    work.start()
    assert heard.wait(20)
    world.stop.set()
    work.join()


def test_a_release_left_out_for_its_length_is_told_beside_it(world):
    world.fleet.owners["ben"].update = lambda request: request.prompt.vectors * 0 + 2.0
    campaign = world.carry_out(min_clients=2)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    (_, _, _, (client, told)) = lines(world, 1)
    assert client == "ben"
    assert told.startswith("released, not counted: update norm")


def stopping(world, after):
    def forge(owner, request):
        world.stop.set()
        return after(owner, request)

    return forge


def released(owner, request):
    return owner.sealed(owner.release(request))


def test_a_client_revoked_after_its_release_is_left_out_whether_or_not_the_coordinator_restarts(world):
    world.fleet.owners["ben"].forge = stopping(world, released)
    world.launch(min_clients=2)
    world.go_on("first")
    assert world.outcomes("first", 1) == {"ada": "released", "ben": "released"}
    world.store.revoke("ada")
    world.stop.clear()
    world.fleet.owners["ben"].forge = None
    campaign = world.go_on("first")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert ("ada", "revoked") in lines(world, 1)
    assert ("ada", "released, not counted: the client was revoked") in lines(world, 1)


@dataclass
class Beside(InProcessFleet):
    """The fleet of a second process on the same store: nobody is connected to it, and meanwhile the first works."""

    meanwhile: list = field(default_factory=list)

    def exchange(self, requests, *, deadline_s, is_over=None, on_outcome, on_late):
        self.meanwhile.pop(0)(requests)
        for name in requests:
            on_outcome(name, Outcome(error="timeout"))
        return {}


@pytest.fixture
def second(world):
    """A second process: a store and a fleet of its own."""
    store = Store.open(f"sqlite:///{world.directory}/store.db")
    fleet = Beside(world.fleet.publisher)
    yield Runner(store, fleet, world.identity, world.target, threading.Event())
    store.close()


def heard_by_the_first(world, name="first"):
    """What a first process would write down."""

    def meanwhile(requests):
        index = len(world.store.rounds(name))
        for client, request in requests.items():
            reply = world.fleet.owners[client].answer(request, world.fleet.publisher)
            world.store.record_reply(name, index, client, "released", reply)

    return meanwhile


def test_a_second_process_that_hears_nobody_closes_rounds_with_what_the_first_has_heard(world, second):
    world.carry_out(name="alone")
    world.launch()
    second.fleet.meanwhile = [heard_by_the_first(world)] * 2
    second.carry_out(second.claim())
    campaign = world.store.campaign("first")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert world.outcomes("first", 1) == dict.fromkeys(("ada", "ben", "cleo"), "released")
    for index in (1, 2):
        assert torch.equal(world.prompt("first", index), world.prompt("alone", index))


@pytest.mark.parametrize("strategy", ["default", "fedavgm"])
def test_a_second_process_goes_on_from_a_round_that_the_first_closed(world, second, strategy):
    world.carry_out(name="alone", strategy=strategy)
    world.launch(strategy=strategy)

    def closed_by_the_first(_requests):
        ada = world.fleet.owners["ada"]
        ada.forge = lambda owner, request: (
            (world.stop.set() if request.round.endswith("/2") else None) or released(owner, request)
        )
        world.go_on("first")  # round 1 as a whole, and ada's part of round 2
        assert [item.state for item in world.store.rounds("first")] == [RoundState.CLOSED, RoundState.OPEN]

    second.fleet.meanwhile = [closed_by_the_first, heard_by_the_first(world)]
    second.carry_out(second.claim())
    campaign = world.store.campaign("first")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert torch.equal(world.prompt("first", 2), world.prompt("alone", 2))


def test_a_second_release_of_a_client_is_kept_beside_and_the_first_counts(world, second):
    """The other process hears ben's first release while ours hears a different one."""
    ben = world.fleet.owners["ben"]
    world.launch(rounds=1)

    def answers_both(owner, request):
        first = owner.sealed(owner.release(request))
        world.store.record_reply("first", 1, "ben", "released", first)
        return owner.sealed(replace(owner.release(request), prompt=request.prompt))

    ben.forge = answers_both
    campaign = world.go_on("first")
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert ("ben", "released, not counted: its first release stands") in lines(world, 1)
    ben.forge = None
    world.carry_out(name="alone", rounds=1)
    assert torch.equal(world.prompt("first", 1), world.prompt("alone", 1))


def test_a_decline_after_a_release_changes_nothing(world):
    def released_and_declined(owner, request):
        world.store.record_reply("first", 1, "ben", "released", released(owner, request))
        return owner.sealed(Decline(request.round, "ben", request.nonce, Refusal.SPENT))

    world.fleet.owners["ben"].forge = released_and_declined
    campaign = world.carry_out(rounds=1)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert ("ben", "declined: spent, not counted: its first release stands") in lines(world, 1)
