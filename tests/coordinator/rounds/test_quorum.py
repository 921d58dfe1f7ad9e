"""Too few prompts are no round."""

from coordinator.store.records import CampaignState


def test_too_few_prompts_fail_the_campaign_with_everybodys_reason(world):
    del world.fleet.owners["ben"]
    campaign = world.carry_out()
    assert campaign.state is CampaignState.FAILED
    assert "round 1: 2 valid prompts, the plan's min_clients is 3" in campaign.detail
    assert "ben: offline" in campaign.detail
    assert "\n" not in campaign.detail


def test_a_client_left_out_for_its_long_update_does_not_count_towards_the_cohort(world):
    world.fleet.owners["ben"].update = lambda request: request.prompt.vectors * 0 + 2.0
    campaign = world.carry_out()
    assert campaign.state is CampaignState.FAILED
    assert "ben: update norm" in campaign.detail


def test_fewer_clients_than_the_cohort_fail_before_anybody_is_asked(world):
    campaign = world.carry_out(min_clients=4)
    assert campaign.state is CampaignState.FAILED
    assert "3 clients are enrolled, the plan's min_clients is 4" in campaign.detail
    assert world.fleet.asked == []
