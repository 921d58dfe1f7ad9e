"""What a round asks of everybody on its roster."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from coordinator.publication.publish import verified_predicate
from coordinator.store.records import CampaignState
from tests.coordinator.campaigns.campaigns import start_of, stay_inside
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.models.objectives import divergence
from transfer.post.evaluation import class_logits
from transfer.post.starts import public_answers
from transfer.protocol import round_wire


def test_the_first_round_starts_from_the_tasks_text_or_from_random_words(world):
    world.carry_out()
    asked = world.fleet.owners["ada"].requests[0]
    assert torch.equal(asked.prompt.vectors, start_of(world))
    world.carry_out(name="second", start=replace(world.plan.start, init="vocabulary"))
    random_start = world.fleet.owners["ada"].requests[-2].prompt.vectors
    assert random_start.shape == (4, 32)
    assert not torch.equal(random_start, start_of(world))


def test_a_start_of_public_text_answers_it_as_the_bare_target_does_without_its_prior(world):
    assert world.carry_out(start=replace(world.plan.start, init="public")).state is CampaignState.PUBLISHED
    plan, texts = world.plan, read_texts(Path(world.plan.public_text))
    proxy, target = load(world.store.proxy("tiny").directory), load(world.target.source)
    answers = public_answers(target, plan.task, texts)
    start = world.fleet.owners["ada"].requests[0].prompt
    text = proxy.text_prompt(plan.task.init_text, 4)
    learnt, before = (
        divergence(answers, class_logits(proxy, plan.task, texts, prompt), 1.0) for prompt in (start, text)
    )
    assert learnt < 0.9 * before
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert told["lineage"]["start"] == {"length": 4, "init": "public"}


def test_a_round_moves_in_directions_of_the_public_text_and_nowhere_else(world):
    stay_inside(world)
    assert world.carry_out(dimensions=3).state is CampaignState.PUBLISHED
    first, second = world.fleet.owners["ada"].requests
    assert not torch.equal(
        first.subspace.directions, second.subspace.directions
    )  # learnt where a round starts
    expected = first.prompt.vectors + first.subspace.vectors(torch.tensor([0.1, 0.0, 0.3]))
    torch.testing.assert_close(world.prompt("first", 1), expected)

    world.fleet.owners["ben"].update = lambda request: torch.ones_like(request.prompt.vectors)
    world.carry_out(name="second", dimensions=3, min_clients=2)
    assert world.outcomes("second", 1)["ben"].startswith(
        "invalid: campaigns/second/rounds/1: update of ben leaves"
    )


def test_every_client_is_asked_the_same_but_for_its_name_and_nonce(world):
    world.carry_out()
    ada, ben = (world.fleet.owners[name].requests[1] for name in ("ada", "ben"))
    assert ada.nonce != ben.nonce
    assert ada.cohort == 3
    assert round_wire.request_to_bytes(
        replace(ada, client="ben", nonce=ben.nonce)
    ) == round_wire.request_to_bytes(ben)


@pytest.mark.promise("cohort")
def test_every_client_sees_the_keys_of_all_that_are_asked(world):
    world.carry_out()
    owners = world.fleet.owners.values()
    keys = sorted(owner.key.public_key().public_bytes_raw() for owner in owners)
    assert [list(asked.roster.keys) for owner in owners for asked in owner.requests] == [keys] * 6


def test_a_round_that_was_opened_keeps_its_roster_whoever_joins_or_leaves(world, make_owner):
    joins, moved = make_owner("dan", 3), world.fleet.owners["ada"].update

    def joined_and_left(request):
        if joins.name not in world.fleet.owners:
            world.enrol(joins)
            world.store.revoke("cleo")
            world.stop.set()
        return moved(request)

    world.fleet.owners["ada"].update = joined_and_left
    plan = world.launch(min_clients=2)
    world.go_on(plan.name)  # ada alone has answered round 1
    world.stop.clear()
    assert world.go_on(plan.name).state is CampaignState.PUBLISHED
    assert world.fleet.asked == [["ada", "ben", "cleo"], ["ben"], ["ada", "ben", "dan"]]
    ada, ben = (world.fleet.owners[name].requests for name in ("ada", "ben"))
    assert ada[0].roster == ben[0].roster != ada[1].roster
    assert joins.key.public_key().public_bytes_raw() in ada[1].roster.keys
    assert world.outcomes(plan.name, 1) == {"ada": "released", "ben": "released"}
