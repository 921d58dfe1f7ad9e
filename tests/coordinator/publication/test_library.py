"""A second campaign asks the first one's prompt; both run in this process on one store."""

import io
import math
import sqlite3
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from rich.console import Console

from coordinator.commands.library_table import explain
from coordinator.publication.library import consulted
from coordinator.publication.publish import transfer_and_publish, verified_predicate
from coordinator.store.records import CampaignState
from transfer.errors import NotFoundError, UsageError, VerificationError
from transfer.files.public_text import digest_of
from transfer.model_ref import ModelRef
from transfer.panda import selection as panda
from transfer.peft_directory import WEIGHTS_FILE
from transfer.post.settings import TransferSettings
from transfer.privacy import Guarantee, Spend
from transfer.protocol.rounds import Tuning

PRIVATE = Guarantee(8.0, 1e-6)
NOT_PRIVATE = Tuning(Spend(0.0, 1.0, 5), 1.0, 0.1)
LONG = TransferSettings(steps=40, learning_rate=0.1, check_every=10)
NAME = "prompts/tiny-prompt/versions/1"


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch):
    monkeypatch.setattr(panda, "PROBE_STEPS", 4)


@pytest.fixture
def published(world):
    """A world whose first campaign carried its prompt over with care."""
    assert world.carry_out(transfer=LONG).state is CampaignState.PUBLISHED
    return world


def entries(world, release=PRIVATE, **changes):
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    target = ModelRef(**told["target"])
    plan = replace(world.plan, **{"name": "new", "library": "auto", **changes})
    return consulted(plan, world.store, world.identity, target, release)


def second(world, **changes):
    """Carry out a second campaign and read what is signed about its version."""
    publish = replace(world.plan.publish, prompt="second-prompt")
    campaign = world.carry_out(name="second", publish=publish, **changes)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    return verified_predicate(world.store.prompt_version("second-prompt"), world.identity)


def test_every_published_prompt_is_a_record_of_what_the_store_holds(published):
    (entry,) = entries(published)
    record = entry.record
    told = verified_predicate(published.store.prompt_version("tiny-prompt"), published.identity)
    assert record.name == NAME
    assert record.prompt.to_bytes() == published.store.prompt_file("tiny-prompt", 1, WEIGHTS_FILE)
    assert torch.equal(record.proxy_prompt.vectors, published.prompt("first", 2))
    assert record.proxy_prompt.model == published.store.proxy("tiny").model
    assert record.task == published.plan.task
    assert len(record.texts) == 48
    assert record.cohorts == ("first",)
    assert record.guarantee == Guarantee(told["privacy"]["epsilon"], 1e-6)
    assert set(entry.contributions[0].costs) == {"ada", "ben", "cleo"}


def test_a_plan_that_does_not_ask_gets_no_entry_and_one_that_names_gets_that_one(published):
    assert entries(published, library="none") == []
    assert [entry.record.name for entry in entries(published, library="tiny-prompt")] == [NAME]
    with pytest.raises(NotFoundError, match="no prompt 'other' is published"):
        entries(published, library="other")


def test_what_is_revoked_is_in_no_library_and_only_the_newest_version_is(published):
    published.carry_out(name="again", seed=3)
    assert [entry.record.name for entry in entries(published)] == ["prompts/tiny-prompt/versions/2"]
    published.store.set_prompt_state("tiny-prompt", 2, "revoked")
    assert [entry.record.name for entry in entries(published)] == [NAME]


def test_a_prompt_without_privacy_is_refused_by_name_and_listed_by_auto(world):
    world.carry_out(tuning=NOT_PRIVATE)
    with pytest.raises(UsageError, match=f"library prompt {NAME} was made without privacy.* auto or none"):
        entries(world, library="tiny-prompt")
    assert entries(world, Guarantee(math.inf, 1e-6), library="tiny-prompt")
    library = second(world, library="auto")["lineage"]["library"]
    assert (library["used"], library["compared"], library["cohorts"]) == (None, [], [])


def test_a_prompt_that_a_head_reads_is_in_the_library_and_not_compared(world, head_task):
    assert world.carry_out(task=head_task).state is CampaignState.PUBLISHED
    with pytest.raises(UsageError, match=rf"library prompt {NAME} is not read by label words.* auto or none"):
        entries(world, library="tiny-prompt")
    library = second(world, library="auto")["lineage"]["library"]
    assert (library["used"], library["compared"]) == (None, [])
    with pytest.raises(UsageError, match=r'plan transfer.library "auto": .* write library = "none"'):
        replace(world.plan, task=head_task, library="auto")


def for_users(world):
    return replace(world.plan.tuning, spend=replace(world.plan.tuning.spend, unit="user"))


def test_a_private_release_asks_no_prompt_that_protects_another_unit(published):
    obstacle = "keeps its ε for one record and this release for one user: the two cannot be summed"
    with pytest.raises(UsageError, match=f"library prompt {NAME} {obstacle}; .* auto or none"):
        entries(published, replace(PRIVATE, unit="user"), library="tiny-prompt")
    assert entries(published, Guarantee(math.inf, 1e-6, "user"), library="tiny-prompt")
    told = second(published, library="auto", tuning=for_users(published))
    library = told["lineage"]["library"]
    assert (library["used"], library["compared"], library["cohorts"]) == (None, [], [])
    assert told["privacy"]["unit"] == "user"
    assert told["privacy"]["delta"] == 1e-6
    plan = replace(published.plan, name="second", tuning=for_users(published), library="auto")
    _, result = transfer_and_publish(published.store, published.identity, plan, published.target)
    written = io.StringIO()
    explain(result.choice, Console(file=written, width=200))
    assert f"{NAME} is not eligible: it {obstacle}" in written.getvalue()


def test_prompts_that_protect_users_are_asked_and_summed_by_those_that_do(world):
    assert world.carry_out(transfer=LONG, tuning=for_users(world)).state is CampaignState.PUBLISHED
    first = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)
    told = second(world, library="auto", tuning=for_users(world))
    (cohort,) = told["lineage"]["library"]["cohorts"]
    assert {cost["unit"] for cost in cohort["costs"].values()} == {"user"}
    assert (told["privacy"]["unit"], first["privacy"]["unit"]) == ("user", "user")
    assert told["privacy"]["epsilon"] == pytest.approx(2 * first["privacy"]["epsilon"])
    (entry,) = entries(world, replace(PRIVATE, unit="user"), library="second-prompt")
    assert {cost.unit for item in entry.contributions for cost in item.costs.values()} == {"user"}


def test_a_campaign_is_failed_before_any_client_is_asked_if_its_library_prompt_cannot_serve(world):
    assert world.carry_out(library="nowhere").state is CampaignState.FAILED
    assert "no prompt 'nowhere' is published" in world.store.campaign("first").detail
    assert world.fleet.asked == []


def test_the_lineage_names_what_was_compared_and_used_and_the_claim_composes_both_cohorts(published):
    (entry,) = entries(published)
    told = second(published, library="auto")
    library = told["lineage"]["library"]
    first = verified_predicate(published.store.prompt_version("tiny-prompt"), published.identity)
    (compared,) = library["compared"]
    assert (compared["prompt"], compared["campaign"]) == (NAME, "first")
    assert compared["sha256"] == entry.digest
    assert (compared["epsilon"], compared["delta"]) == (first["privacy"]["epsilon"], 1e-6)
    assert library["used"] == compared  # a careful transfer of the same prompt is better than a hasty one
    assert library["comparison"]["difference"] > library["comparison"]["error"] >= 0
    assert (
        told["lineage"]["held_out_loss"]["transferred"] < told["lineage"]["held_out_loss"]["without library"]
    )
    (cohort,) = library["cohorts"]
    assert (cohort["campaign"], set(cohort["costs"])) == ("first", {"ada", "ben", "cleo"})
    assert told["privacy"]["epsilon"] == pytest.approx(2 * first["privacy"]["epsilon"])
    assert told["privacy"]["delta"] == pytest.approx(2e-6)
    assert told["privacy"]["clients"] == first["privacy"]["clients"]


def test_a_library_prompt_that_learnt_from_another_brings_its_cohorts_along(published):
    second(published, library="auto")
    (entry,) = entries(published, library="second-prompt")
    assert entry.record.cohorts == ("second", "first")
    assert entry.record.guarantee.delta == pytest.approx(2e-6)


def test_a_campaign_never_learns_from_its_own_prompt(published):
    plan = replace(published.plan, library="auto", transfer=replace(LONG, steps=2))
    _, result = transfer_and_publish(published.store, published.identity, plan, published.target)
    assert "this very campaign" in result.choice.candidates[1].obstacle
    assert (
        verified_predicate(published.store.prompt_version("tiny-prompt"), published.identity)["privacy"][
            "delta"
        ]
        == 1e-6
    )


def test_asking_none_leaves_no_trace_in_the_statement(published):
    assert "library" not in second(published)["lineage"]


def test_what_was_changed_in_the_store_is_no_library_prompt(published):
    path = published.directory / "store.db"
    change = "UPDATE rounds SET prompt = start_prompt WHERE campaign = 'first' AND number = 2"
    with sqlite3.connect(path) as connection:
        assert connection.execute(change).rowcount == 1
    connection.close()
    with pytest.raises(VerificationError, match=f"{NAME}: no stored round of 'first'"):
        entries(published)


def test_public_text_that_changed_since_is_not_taken_for_the_prompts_own(published):
    (published.directory / "public.txt").write_text("another text", encoding="utf-8")
    assert entries(published)[0].record.texts == ()


def test_public_text_may_be_a_directory_whose_files_the_statement_and_the_library_compare(world):
    folder = world.directory / "texts"
    folder.mkdir()
    lines = (world.directory / "public.txt").read_text(encoding="utf-8").splitlines()
    (folder / "a.txt").write_text("\n".join(lines[:9]), encoding="utf-8")
    parquet.write_table(pa.table({"text": lines[9:]}), folder / "b.parquet")
    assert world.carry_out(transfer=LONG, public_text=str(folder)).state is CampaignState.PUBLISHED
    told = verified_predicate(world.store.prompt_version("tiny-prompt"), world.identity)["lineage"][
        "public_text"
    ]
    assert told == {"sha256": digest_of(folder), "texts": 48}
    assert len(entries(world)[0].record.texts) == 48
    (folder / "c.csv").write_text("no text", encoding="utf-8")
    assert entries(world)[0].record.texts == ()
