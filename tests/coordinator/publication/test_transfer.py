"""A prompt is published only if it beats its baselines on the target."""

import weakref
from dataclasses import replace

import pytest
import torch

from coordinator.publication import transfer
from coordinator.publication.publish import verified_predicate
from coordinator.publication.transfer import measured_twins
from coordinator.store.records import CampaignState
from transfer.models.loading import load
from transfer.post.twins import Answers


def test_the_statement_tells_the_alpha_that_agreement_came_to(world):
    campaign = world.carry_out(transfer=replace(world.plan.transfer, alpha="agreement"))
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert isinstance(told["lineage"]["transfer"]["alpha"], float)


def test_a_prompt_that_is_no_better_than_its_start_is_not_published(world):
    strict = replace(world.plan.publish, require_improvement=True)
    still = replace(world.plan.transfer, learning_rate=1e-9, steps=1)
    campaign = world.carry_out(publish=strict, transfer=still)
    assert campaign.state is CampaignState.FAILED
    assert "not published: held-out public loss" in campaign.detail
    assert world.store.prompt_versions() == []


def test_a_prompt_that_beats_its_start_is_published_under_the_same_rule(world):
    far = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    for owner in world.fleet.owners.values():
        owner.update = lambda request: far
    strict = replace(world.plan.publish, require_improvement=True)
    settings = replace(world.plan.transfer, steps=60, learning_rate=0.02, check_every=5)
    campaign = world.carry_out(publish=strict, transfer=settings)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail


def test_a_transfer_that_begins_with_what_is_free_is_measured_against_it(world):
    campaign = world.carry_out(transfer=replace(world.plan.transfer, start="public"))
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)["lineage"]
    losses = told["held_out_loss"]
    assert told["transfer"]["start"] == "public"
    assert losses["public start"] == losses["start"] >= losses["transferred"]


def test_the_change_on_quantised_twins_is_measured_on_held_out_text_and_signed(world):
    measured = replace(world.plan.publish, twins=("int8", "nf4"))
    campaign = world.carry_out(publish=measured)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    twins = told["lineage"]["twins"]
    assert [twin["numbers"] for twin in twins] == ["int8", "nf4"]
    for twin in twins:
        assert twin["texts"] == round(told["lineage"]["transfer"]["held_out"] * 48)
        assert 0 <= twin["agreement"] <= 1
        assert twin["kl"] > 0


def test_a_target_is_no_twin_of_itself_and_without_twins_nothing_is_signed(world):
    nf4 = world.target.placement.model_copy(update={"quantise": "nf4"})
    world.target = world.target.model_copy(update={"placement": nf4})
    campaign = world.carry_out(publish=replace(world.plan.publish, twins=("nf4",)))
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert told["lineage"]["numbers"] == "nf4"
    assert "twins" not in told["lineage"]


def test_what_a_prompt_makes_of_the_wording_is_measured_on_held_out_text_and_signed(world):
    campaign = world.carry_out(publish=replace(world.plan.publish, formats=5))
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    wording = told["lineage"]["wording"]
    assert (wording["formats"], wording["texts"]) == (5, round(told["lineage"]["transfer"]["held_out"] * 48))
    for each in (wording["prompted"], wording["bare"]):
        assert 0 <= each["least"] <= each["agreement"] <= 1
        assert each["index"] > 0
    assert 0 < wording["drift"] != wording["random_drift"] > 0
    assert "formats" not in told["lineage"]["transfer"]


def test_a_transfer_over_formats_says_so_and_without_a_comparison_nothing_is_signed(world):
    publish, transferred = replace(world.plan.publish, formats=0), replace(world.plan.transfer, formats=3)
    campaign = world.carry_out(publish=publish, transfer=transferred)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert told["lineage"]["transfer"]["formats"] == 3
    assert "wording" not in told["lineage"]


def test_a_twin_that_does_not_load_is_left_out(world, caplog, tmp_path, tiny_task):
    model = load(world.target.source)
    answers = Answers.of(model, tiny_task, ["A good film."], model.text_prompt("A review", 4))
    gone = world.target.model_copy(update={"source": str(tmp_path / "gone")})
    assert measured_twins(gone, ["int8"], answers) == []
    assert "the prompt is not measured on the target's int8 twin" in caplog.text


@pytest.mark.parametrize("space", ["labels", "vocabulary"])
def test_no_weight_of_the_proxy_is_in_memory_when_the_target_s_prompt_is_sought(world, monkeypatch, space):
    weights, alive, load, measure = [], [], transfer.load_proxy, transfer.transfer_and_measure

    def loaded(*given):
        model = load(*given)
        weights.extend(weakref.ref(weight) for weight in model.model.parameters())
        return model

    def measured(*given):
        def on_step(*steps):
            alive.append(sum(weight() is not None for weight in weights))
            given[-1](*steps)

        return measure(*given[:-1], on_step)

    monkeypatch.setattr(transfer, "load_proxy", loaded)
    monkeypatch.setattr(transfer, "transfer_and_measure", measured)
    campaign = world.carry_out(transfer=replace(world.plan.transfer, space=space))
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    assert len(weights) > 5
    assert alive
    assert set(alive) == {0}
