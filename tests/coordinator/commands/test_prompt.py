"""The `prompt` commands on a directory whose campaign was carried out in this process."""

import sys

import pytest

from coordinator.home.identity import identity
from coordinator.home.settings import read
from coordinator.publication.publish import verified_predicate
from coordinator.rounds.plan import Publication
from coordinator.store.records import CampaignState
from coordinator.store.store import Store
from transfer.panda import selection as panda
from transfer.privacy import Spend
from transfer.protocol.prompt_lineage import TriggersV1
from transfer.protocol.rounds import Tuning


@pytest.fixture
def published(command, make_world):
    """A coordinator with version 1 of tiny-prompt, and its world."""
    config = read(command.directory)
    store = Store.open(config.store.url)
    world = make_world(store, identity(config), config.target)
    assert world.carry_out().state is CampaignState.PUBLISHED
    yield command, world
    store.close()


def test_a_version_is_listed_and_shown_with_its_privacy(published):
    command, _ = published
    (listed,) = command.json("prompt", "list")
    assert (listed["name"], listed["state"]) == ("prompts/tiny-prompt/versions/1", "published")
    shown = command.json("prompt", "show", "tiny-prompt")
    assert shown["statement"]["privacy"]["clients"][0]["client"] == "ada"
    for words in (("list",), ("show", "tiny-prompt"), ("show", "tiny-prompt", "--version", "1")):
        assert command("prompt", *words) == 0
        assert "tiny-prompt" in command.out
    assert command("prompt", "show", "tiny-prompt", "--version", "2") == 1


def test_a_version_is_revoked_and_offered_again(published):
    command, world = published
    assert command.json("prompt", "revoke", "tiny-prompt", "1")["state"] == "revoked"
    assert world.store.prompt_versions(published_only=True) == []
    assert command.json("prompt", "publish", "tiny-prompt", "1")["state"] == "published"
    assert command.json("prompt", "revoke", "tiny-prompt", "7")["error"] == "not_found"


def test_a_roll_back_publishes_the_old_content_as_a_new_version(published):
    command, world = published
    world.carry_out(name="second", seed=1)
    assert command.json("prompt", "rollback", "tiny-prompt", "--to", "1")["version"] == 3
    assert world.store.prompt_version("tiny-prompt").version == 3


def test_a_prompt_is_carried_over_to_another_target_at_no_further_privacy_cost(published, tiny_masked):
    command, world = published
    asked = len(world.fleet.asked)
    answer = command.json(
        "prompt", "transfer", "first", "--target", tiny_masked, "--name", "masked-prompt", "--anyway"
    )
    assert (command.status, answer["name"]) == (0, "prompts/masked-prompt/versions/1"), answer
    assert {"transferred", "start", "random"} <= set(answer["held_out_loss"])
    ours = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    theirs = verified_predicate(world.store.prompt_version("masked-prompt"), world.identity)
    assert theirs["privacy"] == ours["privacy"]
    assert theirs["lineage"]["rounds"] == ours["lineage"]["rounds"]
    assert theirs["target"] != ours["target"]
    assert theirs["lm_head"] == "masked"
    assert len(world.fleet.asked) == asked


def test_a_campaign_without_its_rounds_has_nothing_to_carry_over(published):
    command, world = published
    world.launch(name="second")
    assert command("prompt", "transfer", "second") == 2
    assert "closed 0 of 2 rounds" in command.err


def test_a_transfer_tells_which_library_prompt_was_used_and_why(published, monkeypatch):
    command, world = published
    monkeypatch.setattr(panda, "PROBE_STEPS", 4)
    world.carry_out(name="second", publish=Publication("second-prompt", require_improvement=False))
    answer = command.json("prompt", "transfer", "second", "--name", "third-prompt", "--anyway")
    assert command.status == 0, answer
    null, mine, older = answer["library"]["candidates"]
    assert (null["name"], len(null["probe"])) == ("none", 2)
    assert (mine["name"], mine["probe"]) == ("prompts/second-prompt/versions/1", [])
    assert "this very campaign" in mine["obstacle"]
    assert (older["name"], older["obstacle"]) == ("prompts/tiny-prompt/versions/1", None)
    assert set(older["scores"]) == {"effect", "alignment", "leep", "gradient", "paper"}
    assert answer["library"]["finalist"] == older["name"]
    assert answer["library"]["comparison"]["error"] >= 0
    told = verified_predicate(world.store.prompt_version("third-prompt"), world.identity)
    assert told["lineage"]["library"]["comparison"] == answer["library"]["comparison"]
    for words in ("B CKA", "prompts/tiny", "not eligible", answer["library"]["verdict"]):
        assert words in command.err


@pytest.mark.slow
def test_a_transfer_asks_the_library_it_is_told_to(published):
    command, world = published
    words = ("prompt", "transfer", "first", "--name", "other", "--anyway")
    assert "library" not in command.json(*words, "--library", "none")
    assert command.json(*words, "--library", "elsewhere")["error"] == "not_found"
    world.carry_out(name="second", tuning=Tuning(Spend(0.0, 1.0, 5), 1.0, 0.1))
    answer = command.json(*words, "--library", "tiny-prompt")
    assert (command.status, answer["error"]) == (2, "usage")
    assert "library prompt prompts/tiny-prompt/versions/2 was made without privacy" in answer["message"]


def test_a_transfer_that_says_nothing_of_a_library_asks_none_where_no_label_words_are_read(
    published, head_task
):
    command, world = published
    world.carry_out(name="second", task=head_task)
    words = ("prompt", "transfer", "second", "--name", "head-prompt", "--anyway")
    answer = command.json(*words)
    assert (command.status, "library" in answer) == (0, False), answer
    answer = command.json(*words, "--library", "auto")
    assert (command.status, answer["error"]) == (2, "usage")
    assert 'write library = "none"' in answer["message"]


def test_a_transfer_tells_how_answers_change_on_a_twin(published, monkeypatch):
    command, _ = published
    words = (
        "prompt",
        "transfer",
        "first",
        "--name",
        "other",
        "--anyway",
        "--library",
        "none",
        "--twin",
        "nf4",
    )
    answer = command.json(*words)
    assert command.status == 0, answer
    (twin,) = answer["twins"]
    assert command.json("prompt", "show", "other")["statement"]["lineage"]["twins"] == [twin]
    assert command("prompt", "show", "other") == 0
    assert f"in nf4 {twin['agreement']:.1%} of {twin['texts']} public texts are answered alike" in command.out
    assert command(*words[:-1], "int4") == 2
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    assert command(*words) == 2
    assert "int8 and nf4 need bitsandbytes: pip install promptferry[quantised]" in command.err


def test_a_transfer_tells_what_the_wording_does(published):
    command, _ = published
    answer = command.json("prompt", "transfer", "first", "--name", "other", "--anyway", "--library", "none")
    assert command.status == 0, answer
    wording = answer["wording"]
    assert wording["formats"] == 12
    assert command.json("prompt", "show", "other")["statement"]["lineage"]["wording"] == wording
    assert command("prompt", "show", "other") == 0
    assert f"drift: KL {wording['drift']:.2g} nats behind plain text" in command.out
    assert (
        f"wording: in 11 other formats of the question, {wording['prompted']['agreement']:.1%}" in command.out
    )


def test_a_transfer_lists_words_that_turn_answers_if_the_plan_says_so(published):
    command, world = published
    scanned = Publication("second-prompt", require_improvement=False, triggers=True)
    assert world.carry_out(name="second", publish=scanned).state is CampaignState.PUBLISHED
    answer = command.json("prompt", "transfer", "second", "--library", "none")
    assert command.status == 0, answer
    scan = answer["triggers"]
    assert scan["texts"] == 48
    assert command.json("prompt", "show", "second-prompt")["statement"]["lineage"]["triggers"] == scan
    assert command("prompt", "show", "second-prompt") == 0
    assert f"trigger scan: {TriggersV1(**scan).summary}" in command.out
