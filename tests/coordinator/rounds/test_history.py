"""What was stored of a campaign is verified anew."""

import sqlite3

import pytest
import torch

from coordinator.publication.publish import verified_predicate
from coordinator.rounds.history import read_history
from coordinator.store.records import CampaignState
from transfer.errors import UsageError, VerificationError
from transfer.privacy import epsilon
from transfer.protocol.rounds import Decline, Refusal


@pytest.fixture
def published(world):
    assert world.carry_out().state is CampaignState.PUBLISHED
    return world.store.prompt_version("tiny-prompt")


def test_a_client_pays_only_for_the_rounds_it_released_a_prompt_in(world):
    dora = world.enrol(type(world.fleet.owners["ada"])("dora", world.fleet.owners["ada"].update))

    def only_first(owner, request):
        if request.round.endswith("/1"):
            return owner.sealed(owner.release(request))
        return owner.sealed(Decline(request.round, owner.name, request.nonce, Refusal.BUDGET))

    dora.forge = only_first
    world.carry_out()
    clients = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)["privacy"][
        "clients"
    ]
    cost = {item["client"]: item for item in clients}
    assert cost["dora"]["rounds"] == 1
    assert cost["dora"]["epsilon"] == pytest.approx(epsilon([world.plan.tuning.spend], 1e-6))
    assert cost["dora"]["epsilon"] < cost["ada"]["epsilon"]


def test_a_client_left_out_of_the_aggregate_is_still_accounted_for(world):
    eve = world.enrol(type(world.fleet.owners["ada"])("eve", lambda request: torch.full((4, 32), 2.0)))
    assert eve.name == "eve"
    world.carry_out()
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert [item["dropped"] for item in told["lineage"]["rounds"]] == [["eve"]] * 2
    assert "eve" in {item["client"] for item in told["privacy"]["clients"]}


def test_an_unfinished_campaign_has_nothing_to_publish(world):
    world.launch()
    with pytest.raises(UsageError, match="closed 0 of 2 rounds"):
        read_history(world.store, world.identity, world.plan)


def test_a_reply_changed_in_the_store_is_found(world, published):
    bens = "(SELECT envelope FROM replies WHERE client='ben' AND number=1)"
    change(world, f"UPDATE replies SET envelope = {bens} WHERE client='ada' AND number=1")  # noqa: S608
    with pytest.raises(VerificationError, match="signed by key"):
        read_history(world.store, world.identity, world.plan)


def test_a_reply_withheld_from_the_store_is_found(world, published):
    change(world, "DELETE FROM replies WHERE client='ada' AND number=2")
    with pytest.raises(VerificationError, match="rounds/2: the stored prompt is not the aggregate"):
        read_history(world.store, world.identity, world.plan)


def change(world, statement):
    with sqlite3.connect(world.directory / "store.db") as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
