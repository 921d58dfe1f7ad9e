import json
from dataclasses import replace

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from peft import PeftConfig

from coordinator.publication.publish import published_by, republish, verified_predicate
from coordinator.rounds.plan import Start
from coordinator.rounds.round_spec import start_prompt
from coordinator.store.records import CampaignState
from transfer.errors import NotFoundError, VerificationError
from transfer.model_ref import ModelRef
from transfer.models.loading import load
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE
from transfer.privacy import Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.protocol.signing import PROMPT_PREDICATE, Statement

MODEL = ModelRef("target", "c" * 64)


@pytest.fixture
def published(world):
    assert world.carry_out().state is CampaignState.PUBLISHED
    return world.store.prompt_version("tiny-prompt")


def files(world, version):
    return {
        file.path: world.store.prompt_file(version.prompt, version.version, file.path)
        for file in version.files
    }


def test_the_statement_is_signed_and_binds_every_file(world, published):
    key = world.identity.publisher.public_key()
    statement = Statement.verified(published.statement, key, PROMPT_PREDICATE)
    content = files(world, published)
    assert set(content) == set(statement.digests) == {WEIGHTS_FILE, CONFIG_FILE}
    for name in content:
        statement.check(name, content[name])


@pytest.mark.promise("statement")
def test_the_statement_says_what_a_user_has_to_know(world, published):
    told = verified_predicate(published, world.identity)
    assert {
        "prompt",
        "version",
        "task",
        "target",
        "proxy",
        "lm_head",
        "campaign",
        "rounds",
        "lineage",
        "privacy",
    } == set(told)
    assert (told["prompt"], told["version"], told["campaign"], told["rounds"]) == (
        "tiny-prompt",
        1,
        "first",
        2,
    )
    assert told["target"]["name"] == "tiny-target"
    assert told["proxy"]["name"] == "tiny"
    assert told["lm_head"] == "causal"
    assert told["task"]["labels"][0] == {"name": "positive", "words": ["great", "good"]}
    assert told["lineage"]["public_text"]["texts"] == 48
    assert [item["counted"] for item in told["lineage"]["rounds"]] == [["ada", "ben", "cleo"]] * 2


@pytest.mark.promise("statement")
def test_the_privacy_told_is_the_composition_of_this_campaigns_spends(world, published):
    privacy = verified_predicate(published, world.identity)["privacy"]
    expected = epsilon([world.plan.tuning.spend] * 2, 1e-6)
    assert privacy["epsilon"] == pytest.approx(expected)
    assert privacy["delta"] == 1e-6
    assert (privacy["unit"], privacy["adjacency"]) == ("record", "add/remove one")
    assert "PRV" in privacy["accountant"]
    ada = privacy["clients"][0]
    assert (ada["client"], ada["rounds"]) == ("ada", 2)
    assert ada["epsilon"] == pytest.approx(expected)
    assert ada["lifetime_epsilon"] == pytest.approx(epsilon([world.plan.tuning.spend] * 2, 1e-7))
    assert any("label names" in item for item in privacy["not_private"])


def test_no_noise_is_told_as_an_infinite_epsilon_in_plain_json(world):
    world.carry_out(tuning=Tuning(Spend(0.0, 1.0, 5), 1.0, 0.1))
    version = world.store.prompt_version("tiny-prompt")
    told = verified_predicate(version, world.identity)
    assert told["privacy"]["epsilon"] == "inf"
    assert {item["epsilon"] for item in told["privacy"]["clients"]} == {"inf"}
    json.loads(version.statement.payload, parse_constant=lambda name: pytest.fail(name))


def test_the_published_vectors_are_the_transferred_ones_and_peft_reads_the_configuration(
    world, published, tmp_path
):
    content = files(world, published)
    prompt = SoftPrompt.from_bytes(content[WEIGHTS_FILE], MODEL)
    (tmp_path / CONFIG_FILE).write_bytes(content[CONFIG_FILE])
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert (config.num_virtual_tokens, config.token_dim) == prompt.vectors.shape == (4, 32)
    assert config.base_model_name_or_path == "tiny-target"


def test_a_head_starts_behind_the_first_prompt_and_says_nothing(world):
    labels = tuple(replace(label, words=()) for label in world.plan.task.labels)
    task = replace(world.plan.task, template="{text}", labels=labels, label_reading="head")
    proxy = load(world.target.source)
    for init in ("text", "vocabulary"):
        plan = replace(world.plan, task=task, start=Start(3, init))
        assert start_prompt(plan, proxy, proxy).vectors[:3].any(dim=1).all()
        assert torch.equal(start_prompt(plan, proxy, proxy).vectors[3:], torch.zeros(2, proxy.width))


def test_a_campaign_finds_the_version_it_has_published(world, published):
    assert published_by(world.store, world.identity, world.plan) == published
    assert published_by(world.store, world.identity, replace(world.plan, name="other")) is None


def test_a_roll_back_is_a_new_version_with_the_old_files_and_revokes_those_between(world, published):
    world.carry_out(name="second", seed=3)
    world.carry_out(name="third", seed=4)
    newest = republish(world.store, world.identity, "tiny-prompt", 1)
    assert newest.version == 4
    assert files(world, newest) == files(world, published)
    told = verified_predicate(newest, world.identity)
    assert (told["version"], told["campaign"], told["lineage"]["republishes"]) == (4, "first", 1)
    assert [item.state for item in world.store.prompt_versions("tiny-prompt")] == [
        "published",
        "revoked",
        "revoked",
        "published",
    ]
    assert world.store.prompt_version("tiny-prompt").version == 4


def test_what_another_coordinator_signed_is_not_published_again(world, published):
    stranger = replace(world.identity, publisher=Ed25519PrivateKey.generate())
    with pytest.raises(VerificationError, match="signed by key"):
        republish(world.store, stranger, "tiny-prompt", 1)
    with pytest.raises(NotFoundError):
        republish(world.store, world.identity, "tiny-prompt", 9)
