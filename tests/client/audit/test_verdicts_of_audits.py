"""An audit passes what is right and notices what is not: each in small, with its verdict."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import client.private.dpsgd
from client.audit import mechanism as mechanism_audit
from client.audit import membership as membership_audit
from client.audit import one_run as one_run_audit
from client.audit.bounds import rates
from client.audit.canaries import TASK, CanaryProxy, write_records
from client.audit.finding import Finding
from client.audit.lira import likelihood_ratios
from client.audit.membership import Shadowing
from client.audit.shadow_settings import ShadowSettings
from client.ledger.ledger import Ledger
from client.private.noise import NoiseSource, clip_to_grid
from client.private.records import PrivateRecords, read
from tests.promises import Measured
from transfer.errors import DataError, UsageError
from transfer.models.language_model import LanguageModel, load
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.privacy import Budget, Spend, epsilon
from transfer.tasks import Label, Task

WORDS = ("good", "great", "fun", "awful", "dull", "slow", "film", "plot", "actor", "music", "city", "team")


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    drawn = NoiseSource.integers
    patch.setattr(NoiseSource, "integers", lambda self, shape: drawn(self, shape) // 2)


def no_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NoiseSource, "integers", lambda _self, shape: np.zeros(shape, dtype=np.int64))


def three_times_the_clip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        client.private.dpsgd, "clip_to_grid", lambda rows, clip, grid: clip_to_grid(rows, 3 * clip, grid)
    )


def small_mechanism() -> Finding:
    return mechanism_audit.audit(trials=1_500)


def small_one_run() -> Finding:
    """μ = 1, as with the defaults, in four rounds."""
    return one_run_audit.audit(2.0, canaries=1_000, rounds=4)


def test_the_mechanism_keeps_its_claim() -> None:
    seen: list[tuple[int, int]] = []
    found = mechanism_audit.audit(trials=1_500, on_step=lambda *step: seen.append(step))
    assert found.passed
    assert found.claimed == epsilon([Spend(1.0, 1.0, 1)], 1e-5)
    assert 0 < found.bound <= found.claimed
    assert "no more about a record than is claimed" in found.verdict
    assert seen == [(done, 3_000) for done in range(0, 3_000, 500)]


@pytest.mark.promise("mechanism-audit")
@pytest.mark.slow
def test_what_the_mechanism_audit_proves_is_most_of_the_claim(measured: Measured) -> None:
    found = mechanism_audit.audit()
    measured(claimed=found.claimed, proved=found.bound, share=found.measured["share_of_claim"])
    assert found.passed
    assert found.measured["share_of_claim"] >= 0.75


@pytest.mark.promise("mechanism-audit")
@pytest.mark.parametrize("fault", [half_the_noise, no_noise, three_times_the_clip])
def test_a_wrong_mechanism_is_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    found = small_mechanism()
    assert not found.passed
    assert "tells too much about a record" in found.verdict


def test_noise_that_is_used_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, kept = NoiseSource.integers, []

    def twice(self: NoiseSource, shape: tuple[int, ...]) -> np.ndarray:
        if kept:
            return kept.pop()
        kept.append(drawn(self, shape))
        return kept[0]

    monkeypatch.setattr(NoiseSource, "integers", twice)
    found = small_mechanism()
    assert found.bound <= found.claimed
    assert not found.passed
    assert "the noise of one step tells that of the next" in found.verdict


def test_the_gradient_of_a_canary_is_a_dirac_of_its_own(tmp_path: Path) -> None:
    proxy = CanaryProxy.make(tmp_path, 60)
    included = np.arange(60) % 3 == 0
    write_records(tmp_path / "canaries.jsonl", included)
    records, model = read(tmp_path / "canaries.jsonl", TASK.label_names), load(tmp_path / "canary")
    encoder = model.encoder(TASK)
    data = LabelledLines(encoder.encode(records.texts), torch.tensor(records.labels), encoder.words)
    gradients = per_record_gradients(model, data, range(20), proxy.start().vectors)
    expected = torch.zeros(20, 3, 60)
    for row, place in enumerate(np.flatnonzero(included)):
        expected[row, 1, place], expected[row, 2, place] = -0.5, 0.5
    torch.testing.assert_close(gradients, expected, atol=1e-6, rtol=0)


def test_the_daemon_keeps_its_claim_over_canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = small_one_run()
    assert found.passed
    assert found.claimed == epsilon([Spend(2.0, 1.0, 4)], 1e-5)
    assert 0.4 < found.measured["gaussian_estimate"] / found.claimed < 1.8
    assert sum(found.curves["included"]) + sum(found.curves["excluded"]) == 1_000
    assert "a round beyond the budget was refused" in found.verdict
    assert list(tmp_path.iterdir()) == []


def test_canaries_are_heard_once_a_round_and_silence_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the scores are exactly 1 and 0: Adam, its schedule and the denominator are undone."""
    no_noise(monkeypatch)
    found = one_run_audit.audit(2.0, canaries=50, rounds=1)
    edges, inside, outside = (np.array(found.curves[name]) for name in ("edges", "included", "excluded"))
    assert edges[[0, -1]] == pytest.approx([0, 1], abs=2e-3)
    assert inside[:-1].sum() == outside[1:].sum() == 0


@pytest.mark.parametrize("fault", [half_the_noise, three_times_the_clip])
def test_a_daemon_that_tells_too_much_is_noticed(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    found = small_one_run()
    assert not found.passed
    assert "the released prompts tell too much" in found.verdict


def test_a_ledger_that_does_not_hold_the_budget_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "covers", lambda _self, _spends: True)
    found = one_run_audit.audit(2.0, canaries=50, rounds=1)
    assert not found.passed
    assert "a round beyond it was answered" in found.verdict


def test_a_ledger_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Ledger.spends
    monkeypatch.setattr(Ledger, "spends", lambda self, data_set: whole(self, data_set)[-1:])
    found = one_run_audit.audit(2.0, canaries=50, rounds=3)
    assert not found.passed
    assert "the ledger forgets" in found.verdict


@pytest.mark.promise("one-run-audit")
@pytest.mark.slow
def test_the_one_run_estimate_is_near_the_claim(measured: Measured) -> None:
    runs = [one_run_audit.audit() for _ in range(3)]
    for run in runs:
        estimate = run.measured["gaussian_estimate"] / run.claimed
        measured(claimed=run.claimed, proved=run.bound, estimate_over_claim=estimate, seconds=run.seconds)
    assert all(run.passed for run in runs)
    assert 0.7 <= np.median([run.measured["gaussian_estimate"] / run.claimed for run in runs]) <= 1.4


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        (lambda: mechanism_audit.audit(trials=10), "10 trials prove nothing: 100 are the least"),
        (lambda: mechanism_audit.audit(0.0), "noise multiplier 0 claims no privacy"),
        (lambda: one_run_audit.audit(canaries=5), "5 canaries: the audit takes 50 to 5000"),
        (lambda: one_run_audit.audit(0.0), "noise multiplier 0 claims no privacy"),
        (lambda: ShadowSettings(shadows=2), "membership audit: shadows 2 must be ≥ 4"),
        (lambda: ShadowSettings(records=5), "membership audit: records 5 must be ≥ 20"),
    ],
)
def test_an_audit_that_could_prove_nothing_is_refused(audit, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        audit()


@pytest.fixture(scope="module")
def model(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal)


def records(count: int) -> PrivateRecords:
    """Texts of random words with random labels: nothing to learn but the records themselves."""
    draw = np.random.default_rng(3)
    texts = tuple(" ".join(draw.choice(WORDS, 8)) for _ in range(count))
    return PrivateRecords(texts, tuple(draw.integers(0, 2, count).tolist()))


@pytest.fixture(scope="module")
def headed(tiny_task: Task) -> Task:
    """Read by a head, which learns a few texts by heart at once."""
    labels = (Label("positive", ()), Label("negative", ()))
    return replace(tiny_task, template="{text}", labels=labels, label_reading="head")


def shadowing(model: LanguageModel, task: Task, spend: Spend) -> Shadowing:
    asked = ShadowSettings(shadows=8, length=2, learning_rate=2.0)
    plan = Shadowing.of(model, task, asked, Budget(math.inf, 1e-5))
    return replace(plan, tuning=replace(plan.tuning, spend=spend))


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


def test_ratios_tell_members_whose_margins_moved_and_nothing_where_one_kind_is_missing() -> None:
    draw = np.random.default_rng(6)
    member = draw.random((16, 200)) < 0.5
    member[:, 0] = True
    margins = draw.normal(size=200) + 4.0 * member + 0.5 * draw.normal(size=member.shape)
    scores = likelihood_ratios(margins, member)
    assert np.isnan(scores[:, 0]).all()
    assert (scores[:, 1:][member[:, 1:]] > 0).mean() > 0.99
    assert (scores[:, 1:][~member[:, 1:]] < 0).mean() > 0.99


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
