"""What becomes of replies that are not what was asked for: written down, and out of the aggregate."""

from coordinator.store.records import CampaignState
from transfer.protocol.rounds import Decline, Refusal


def test_a_decline_is_written_down_and_the_round_goes_on_with_the_others(world, mallory):
    def declining(owner, request):
        return owner.sealed(Decline(request.round, owner.name, request.nonce, Refusal.BUDGET))

    mallory.forge = declining
    assert world.carry_out().state is CampaignState.PUBLISHED
    assert world.outcomes("first", 1)["bob"] == "declined: budget"


def test_who_is_offline_is_written_down_and_who_is_revoked_is_not_asked(world, mallory):
    del world.fleet.owners["bob"]
    world.carry_out()
    assert world.outcomes("first", 1)["bob"] == "offline"
    world.store.revoke("bob")
    world.carry_out(name="second")
    assert world.fleet.asked[-1] == ["ada", "ben", "cleo"]
