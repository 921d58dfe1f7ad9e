"""Campaigns over a real store and signed replies; only the network is left out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from coordinator.campaigns import start
from coordinator.publication.publish import verified_predicate
from coordinator.store.records import CampaignState, ProxyRecord, RoundState
from tests.coordinator.campaigns.campaigns import start_of, stay_inside
from transfer.distillation.distil import DistilSettings, distil
from transfer.files.public_text import read_texts
from transfer.model_ref import ModelRef
from transfer.models.loading import load
from transfer.peft_directory import CONFIG_FILE, HEAD_FILE, HEAD_KEY, WEIGHTS_FILE
from transfer.prompt import SoftPrompt


def unit(index, like):
    vectors = torch.zeros_like(like)
    vectors.view(-1)[index] = 1.0
    return vectors


def test_a_campaign_goes_from_the_task_to_a_published_prompt(world):
    campaign = world.carry_out()
    assert (campaign.state, campaign.detail) == (
        CampaignState.PUBLISHED,
        "prompts/tiny-prompt/versions/1 is published",
    )
    assert [item.state for item in world.store.rounds("first")] == [RoundState.CLOSED] * 2
    assert world.outcomes("first", 2) == dict.fromkeys(("ada", "ben", "cleo"), "released")
    assert world.store.prompt_version("tiny-prompt").version == 1


@pytest.mark.promise("cohort")
def test_one_hot_updates_show_that_every_client_counts_exactly_once_a_round(world):
    world.carry_out()
    start = start_of(world)
    for index in (1, 2):
        moved = (world.prompt("first", index) - start) * 3
        expected = index * sum(unit(client, start) for client in range(3))
        assert torch.allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"proxy": "nowhere"}, "no proxy 'nowhere'"),
        ({"target": "no/such-model"}, "no/such-model"),
        ({"public_text": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_a_campaign_that_cannot_be_finished_fails_before_anybody_spends(world, changes, words):
    campaign = world.carry_out(**changes)
    assert campaign.state is CampaignState.FAILED
    assert words in campaign.detail
    assert world.fleet.asked == []


def different_vocabularies(world, tiny_masked):
    return {"target": str(tiny_masked), "transfer": replace(world.plan.transfer, space="vocabulary")}


def free_text_for_another_tokeniser(world, _tiny_masked):
    place = world.directory / "other"
    shutil.copytree(world.target.source, place)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place)
    tokenizer.add_tokens("film-maker")
    tokenizer.save_pretrained(place)
    task = replace(world.plan.task, labels=(), kind="text")
    settings = replace(world.plan.transfer, space="vocabulary")
    return {"target": str(place), "task": task, "transfer": settings}


def too_few_texts(world, _tiny_masked):
    Path(world.plan.public_text).write_text("one\ntwo\n", encoding="utf-8")
    return {}


def too_long_lines(world, _tiny_masked):
    return {"task": replace(world.plan.task, max_tokens=125)}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (different_vocabularies, "different vocabularies: transfer in the space of labels"),
        (free_text_for_another_tokeniser, "different vocabularies: free text needs a proxy of this target"),
        (too_few_texts, "2 public texts are too few"),
        (too_long_lines, "128 positions, prompt and line need 129; lower the task's max_tokens"),
    ],
)
def test_what_could_not_be_transferred_fails_before_anybody_spends(world, tiny_masked, plan, words):
    campaign = world.carry_out(**plan(world, tiny_masked))
    assert campaign.state is CampaignState.FAILED
    assert words in campaign.detail
    assert world.fleet.asked == []


@pytest.fixture
def embedding(world, tiny_encoder, head_task, tmp_path):
    """The world with a target that has no LM head, a cut of it for a proxy, and a task read by a head."""
    place = tmp_path / "cut"
    texts = read_texts(Path(world.plan.public_text))
    distil(load(tiny_encoder), [0], texts, DistilSettings(steps=0)).save(place)
    ref = ModelRef.of_directory("cut", place)
    statement = world.store.proxy("tiny").statement
    world.store.add_proxy(ProxyRecord("cut", ref, ref, (0,), (), place, statement))
    world.plan = replace(world.plan, proxy="cut", target=str(tiny_encoder), task=head_task, dimensions=4)
    return world


def test_a_model_without_an_lm_head_is_adapted_by_prompt_and_head(embedding, tiny_encoder, head_task):
    campaign = embedding.carry_out()
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    version = embedding.store.prompt_version("tiny-prompt")
    told = verified_predicate(version, embedding.identity)
    assert (told["lm_head"], told["task"]["label_reading"]) == ("none", "head")
    files = {file.path: embedding.store.prompt_file("tiny-prompt", 1, file.path) for file in version.files}
    assert set(files) == {CONFIG_FILE, WEIGHTS_FILE, HEAD_FILE}
    assert json.loads(files[CONFIG_FILE])["task_type"] == "FEATURE_EXTRACTION"
    target = ModelRef.of_directory("lm", tiny_encoder)
    assert SoftPrompt.from_bytes(files[HEAD_FILE], target, HEAD_KEY).vectors.shape == (2, 32)


def test_answers_in_free_text_go_the_whole_way(world):
    task = replace(world.plan.task, labels=(), kind="text", answer_tokens=3)
    settings = replace(world.plan.transfer, space="vocabulary")
    stay_inside(world)
    campaign = world.carry_out(task=task, transfer=settings, dimensions=3)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    assert (told["task"]["kind"], told["lineage"]["transfer"]["space"]) == ("text", "vocabulary")
    losses = told["lineage"]["held_out_loss"]
    assert losses["transferred"] <= losses["start"]


@pytest.mark.parametrize("side", ["proxy", "target"])
def test_words_are_not_read_without_an_lm_head_and_nobody_is_asked(embedding, tiny_task, side):
    other = {"proxy": {"target": ""}, "target": {"proxy": "tiny"}}[side]
    campaign = embedding.carry_out(task=tiny_task, **other)
    assert campaign.state is CampaignState.FAILED
    assert 'label_reading "single" needs a language-model head' in campaign.detail
    assert embedding.fleet.asked == []


def test_an_unexpected_error_fails_one_campaign_and_not_the_next(world):
    def broken(owner, request):
        raise ZeroDivisionError("a fault of the fleet")

    world.fleet.owners["ada"].forge = broken
    assert world.carry_out().detail == "ZeroDivisionError: a fault of the fleet"
    world.fleet.owners["ada"].forge = None
    assert world.carry_out(name="second").state is CampaignState.PUBLISHED


def test_an_aborted_campaign_stays_aborted_whoever_is_still_answering(world):
    def aborting(owner, request):
        world.store.set_campaign_state("first", CampaignState.ABORTED, "by hand")
        return owner.sealed(owner.release(request))

    world.fleet.owners["ada"].forge = aborting
    campaign = world.carry_out()
    assert (campaign.state, campaign.detail) == (CampaignState.ABORTED, "by hand")
    assert world.outcomes("first", 1) == {"ada": "released"}
    assert world.store.rounds("first")[0].state is RoundState.OPEN


def test_stopping_leaves_the_campaign_running_and_a_restart_finishes_it(world):
    def stopping(owner, request):
        world.stop.set()
        return owner.sealed(owner.release(request))

    world.fleet.owners["ben"].forge = stopping
    assert world.carry_out().state is CampaignState.RUNNING
    assert world.outcomes("first", 1) == {"ada": "released", "ben": "released"}
    world.stop.clear()
    world.fleet.owners["ben"].forge = None
    assert world.go_on("first").state is CampaignState.PUBLISHED
    assert world.fleet.asked[:2] == [["ada", "ben", "cleo"], ["cleo"]]


def test_a_start_that_was_learnt_is_not_learnt_again(world, monkeypatch):
    starts, learn = [], start.start_prompt
    monkeypatch.setattr(start, "start_prompt", lambda *given: starts.append(learn(*given)) or starts[-1])

    def stopping(owner, request):
        world.stop.set()
        return owner.sealed(owner.release(request))

    world.fleet.owners["ben"].forge = stopping
    world.carry_out(start=replace(world.plan.start, init="public"))
    world.stop.clear()
    world.fleet.owners["ben"].forge = None
    assert world.go_on("first").state is CampaignState.PUBLISHED
    assert len(starts) == 1
    assert world.store.rounds("first")[0].start_prompt == starts[0].to_bytes()


def test_a_failed_campaign_put_back_asks_only_those_whose_prompt_is_missing(world):
    cleo = world.fleet.owners.pop("cleo")
    assert world.carry_out().state is CampaignState.FAILED
    world.fleet.owners["cleo"] = cleo
    world.store.set_campaign_state("first", CampaignState.PENDING)
    assert world.go_on("first").state is CampaignState.PUBLISHED
    assert world.fleet.asked == [["ada", "ben", "cleo"], ["cleo"], ["ada", "ben", "cleo"]]
    assert world.outcomes("first", 1)["cleo"] == "released"


def test_a_campaign_that_is_interrupted_comes_before_those_that_wait(world):
    world.launch()
    assert world.store.claim_campaign().name == "first"
    world.launch(name="second")
    assert world.runner().claim().name == "first"


@pytest.mark.parametrize("place", ["start", "user"])
def test_a_chats_campaign_publishes_where_its_prompt_stands_and_what_stands_around_a_text(world, place):
    template = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}<s>assistant:"
    tiny = world.store.proxy("tiny")
    proxy, target = world.directory / "proxy", world.directory / "target"
    for source, copy in ((tiny.directory, proxy), (world.target.source, target)):
        shutil.copytree(source, copy)
        (copy / "chat_template.jinja").write_text(template)
    world.store.add_proxy(replace(tiny, name="chatty", directory=proxy))
    task = replace(world.plan.task, chat=True, prompt_at=place, max_tokens=64)
    campaign = world.carry_out(proxy="chatty", target=str(target), task=task)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    version = world.store.prompt_version("tiny-prompt")
    assert {file.path for file in version.files} == {WEIGHTS_FILE} | (
        {CONFIG_FILE} if place == "start" else set()
    )
    signed = verified_predicate(version, world.identity)
    assert signed["task"].get("prompt_at", "start") == place
    assert signed["chat_line"] == load(target).encoder(task).chat.digest
