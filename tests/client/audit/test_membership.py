"""The membership audit notices prompts that learnt their records by heart."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.audit import membership as membership_audit
from client.audit.bounds import rates
from client.audit.lira import likelihood_ratios
from client.audit.membership import Shadowing
from client.audit.shadow_settings import ShadowSettings
from tests.client.audit.audits import records
from transfer.errors import DataError, UsageError
from transfer.models.language_model import LanguageModel
from transfer.privacy import Budget, Spend, epsilon
from transfer.tasks import Label, Task


@pytest.fixture(scope="module")
def headed(tiny_task: Task) -> Task:
    """Read by a head, which learns a few texts by heart at once."""
    labels = (Label("positive", ()), Label("negative", ()))
    return replace(tiny_task, template="{text}", labels=labels, label_reading="head")


def shadowing(model: LanguageModel, task: Task, spend: Spend) -> Shadowing:
    asked = ShadowSettings(shadows=8, length=2, learning_rate=2.0)
    plan = Shadowing.of(model, task, asked, Budget(math.inf, 1e-5))
    return replace(plan, tuning=replace(plan.tuning, spend=spend))


@pytest.mark.slow
def test_prompts_that_learnt_their_records_by_heart_give_them_away(
    model: LanguageModel, headed: Task
) -> None:
    found = membership_audit.audit(shadowing(model, headed, Spend(0.0, 1.0, 20)), records(24))
    assert found.measured["auc"] > 0.6
    assert found.claimed == math.inf
    assert found.passed
    assert "no noise, so no limit is claimed" in found.verdict


@pytest.mark.slow
def test_users_are_attacked_as_a_whole_where_they_are_the_unit(model: LanguageModel, headed: Task) -> None:
    found_records = records(80)
    users = tuple(f"user {index // 2}" for index in range(80))
    plan = shadowing(model, headed, Spend(0.0, 1.0, 20, "user"))
    found = membership_audit.audit(plan, replace(found_records, users=users))
    assert found.settings["users"] == 40
    assert found.measured["auc"] > 0.6
    assert "of your users at 1 % false alarms" in found.verdict


def test_prompts_with_noise_give_no_record_away(model: LanguageModel, headed: Task) -> None:
    plan = shadowing(model, headed, Spend(4.0, 0.2, 5))
    found = membership_audit.audit(plan, records(40))
    assert found.measured["auc"] == pytest.approx(0.5, abs=0.25)
    assert found.claimed == epsilon([plan.tuning.spend], 1e-5)
    assert found.passed


def test_membership_by_the_toss_of_a_coin_cannot_be_told() -> None:
    draw = np.random.default_rng(5)
    member = draw.random((16, 400)) < 0.5
    scores = likelihood_ratios(draw.normal(size=member.shape), member)
    false, true = rates(scores[~np.isnan(scores)], member[~np.isnan(scores)])
    assert np.trapezoid(true, false) == pytest.approx(0.5, abs=0.03)


def test_an_attack_beyond_the_claim_fails_the_audit(model: LanguageModel, tiny_task: Task) -> None:
    plan = shadowing(model, tiny_task, Spend(1.0, 1.0, 1))
    member = np.random.default_rng(8).random((8, 300)) < 0.5
    found = membership_audit.finding(plan, member + 0.0, member, claimed=0.5)
    assert not found.passed
    assert found.bound > 2
    assert "better than ε 0.5 allows" in found.verdict


def test_a_sample_is_drawn_from_the_file_and_no_larger_than_asked(tmp_path: Path, tiny_task: Task) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n" + "".join(f"text {index},{index % 2}\n" for index in range(60)))
    drawn = membership_audit.sample(path, tiny_task, 25)
    assert len(set(drawn.texts)) == 25
    assert all(
        int(text.split()[1]) % 2 == label for text, label in zip(drawn.texts, drawn.labels, strict=True)
    )
    assert set(drawn.texts) != set(membership_audit.sample(path, tiny_task, 25).texts)
    path.write_text("text,label\nx,0\n")
    with pytest.raises(DataError, match="1 records: a membership audit needs 20"):
        membership_audit.sample(path, tiny_task, 25)


def test_a_sample_of_users_holds_all_records_of_each(tmp_path: Path, tiny_task: Task) -> None:
    path = tmp_path / "train.csv"
    lines = (f"text {index},{index % 2},user {index // 3}\n" for index in range(90))
    path.write_text("text,label,user\n" + "".join(lines))
    drawn = membership_audit.sample(path, tiny_task, 25, "user")
    assert [len(indices) for indices in drawn.by_user()] == [3] * 25
    assert all(
        int(text.split()[1]) // 3 == int(user.split()[1])
        for text, user in zip(drawn.texts, drawn.users, strict=True)
    )
    path.write_text("text,label,user\n" + "".join(f"text {index},0,same\n" for index in range(90)))
    with pytest.raises(DataError, match="1 users: a membership audit needs 20"):
        membership_audit.sample(path, tiny_task, 25, "user")


def test_a_shadow_costs_what_was_asked_and_starts_behind_no_head(model: LanguageModel, headed: Task) -> None:
    plan = Shadowing.of(model, headed, ShadowSettings(steps=1, sample_rate=1.0), Budget(8.0, 1e-5))
    assert 7.9 < epsilon([plan.tuning.spend], 1e-5) <= 8.0
    assert plan.start.vectors.shape == (10 + 2, 32)
    assert not plan.start.vectors[10:].any()


def test_shadows_tune_in_directions_of_public_text_if_there_is_any(
    model: LanguageModel, tiny_task: Task
) -> None:
    asked = ShadowSettings(dimensions=3, steps=2)
    public = [f"a text {index}" for index in range(9)]
    plan = Shadowing.of(model, tiny_task, asked, Budget(math.inf, 1e-5), public)
    assert plan.subspace is not None
    assert (plan.subspace.dimensions, plan.tuning.learning_rate) == (3, 0.05)
    assert Shadowing.of(model, tiny_task, asked, Budget(math.inf, 1e-5)).tuning.learning_rate == 0.02
    free = replace(tiny_task, labels=(), kind="text")
    with pytest.raises(UsageError, match="reads labels, not answers in free text"):
        Shadowing.of(model, free, asked, Budget(8.0, 1e-5))


def test_records_of_several_labels_are_judged_by_the_odds_of_the_whole_set(
    model: LanguageModel, headed: Task, tmp_path: Path
) -> None:
    task, path = replace(headed, many=True), tmp_path / "train.csv"
    sets = ("positive|negative", "", "negative", "positive")
    path.write_text("text,labels\n" + "".join(f"text {n},{sets[n % 4]}\n" for n in range(24)))
    drawn = membership_audit.sample(path, task, 24)
    logits = torch.tensor([[2.0, -1.0], [0.5, 30.0]], dtype=torch.float64)
    odds = membership_audit._odds_of_sets(logits, torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    chance = torch.tensor([2.0, -0.5]).double().sigmoid() * torch.tensor([-1.0, 30.0]).double().sigmoid()
    assert odds == pytest.approx((chance / (1 - chance)).log().numpy(), rel=1e-9)
    found = membership_audit.audit(shadowing(model, task, Spend(4.0, 0.2, 2)), drawn)
    assert found.passed
