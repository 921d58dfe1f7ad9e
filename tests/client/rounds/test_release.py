"""A release is paid for before it is made, and kept before it is sent."""

import json
import math
from dataclasses import replace

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.ledger import Ledger
from client.private.dpsgd import tune
from client.rounds.release import OwnerIdentity
from tests.client.rounds.owner import ROUND, ROWS, Owner, for_users
from tests.promises import Measured
from transfer.errors import LedgerError
from transfer.models.loading import load
from transfer.models.public_directions import public_subspace
from transfer.privacy import Budget, Guarantee, Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Decline, Refusal, Release


def test_a_round_ends_in_a_signed_release_with_its_cost_in_the_ledger(owner: Owner) -> None:
    release = owner.read(owner.participant().answer(owner.sent()))
    assert isinstance(release, Release)
    assert (release.round, release.client, release.nonce) == (ROUND, "hospital-a", b"n" * 16)
    assert release.spend == Spend(1.0, 0.5, 2)
    assert owner.spends() == [release.spend]
    assert release.guarantee.delta == 1e-4
    assert release.guarantee.epsilon == epsilon([release.spend], 1e-4)
    assert release.prompt.model == owner.request().proxy
    assert release.prompt.vectors.abs().max() > 0


def test_a_round_of_free_text_moves_in_its_directions_and_nowhere_else(owner: Owner) -> None:
    owner.data.write_text("".join(json.dumps({"text": text, "answer": text}) + "\n" for text, _ in ROWS))
    task = replace(owner.task, labels=(), kind="text", answer_tokens=4)
    proxy = load(owner.proxy)
    start = SoftPrompt(torch.zeros(3, 32), owner.request().proxy)
    axes = public_subspace(proxy, task, [text for text, _ in ROWS], start, 2, 0)
    release = owner.read(owner.participant().answer(owner.sent(task=task, subspace=axes)))
    assert isinstance(release, Release)
    update = release.prompt.vectors - start.vectors
    assert update.norm() > 1e-3
    torch.testing.assert_close(axes.vectors(axes.coordinates(update.unsqueeze(0))[0]), update)


def test_a_round_that_protects_users_ends_in_a_release_that_says_so(owner: Owner) -> None:
    owner.protect_users("ann", "ben", "ann")
    release = owner.read(owner.participant().answer(owner.sent(**for_users())))
    assert isinstance(release, Release)
    assert owner.spends() == [release.spend] == [Spend(1.0, 0.5, 2, "user")]
    assert release.guarantee == Guarantee(epsilon([release.spend], 1e-4), 1e-4, "user")
    owner.ledger.close()
    owner.ledger = Ledger.open(owner.place)
    assert owner.spends() == [release.spend]


def test_the_signing_key_is_in_no_text_of_its_owner(owner: Owner) -> None:
    identity = OwnerIdentity("dana", Ed25519PrivateKey.generate(), owner.publisher.public_key())
    assert "publisher" in repr(identity)
    assert "signing" not in repr(identity)


@pytest.mark.promise("lineage")
def test_the_guarantee_covers_the_whole_life_of_the_data(owner: Owner) -> None:
    participant = owner.participant()
    participant.answer(owner.sent())
    second = owner.read(participant.answer(owner.sent(round="campaigns/other/rounds/1")))
    assert isinstance(second, Release)
    assert second.guarantee.epsilon == epsilon([second.spend, second.spend], 1e-4)


@pytest.mark.promise("lineage")
def test_trials_under_other_names_and_coordinators_are_all_paid_for_by_the_same_data(
    owner: Owner, measured: Measured
) -> None:
    owner.policy = replace(owner.policy, budget=Budget(math.inf, 1e-4))
    tuning = replace(owner.request().tuning, spend=Spend(0.05, 1.0, 1))  # whose ε is quick to compute
    for trial in range(1, 6):
        owner.file, owner.publisher = f"trial-{trial}.jsonl", Ed25519PrivateKey.generate()
        owner.write([*ROWS, (f"another text {trial}", "positive")])
        asked = owner.sent(round=f"campaigns/trial-{trial}/rounds/1", tuning=tuning)
        release = owner.read(owner.participant().answer(asked))
        owner.ledger.close()
        owner.ledger = Ledger.open(owner.place)
    measured(trials=5, reservations=len(owner.spends()), data_sets=len(owner.ledger.data_sets()))
    assert len(owner.ledger.data_sets()) == 1
    assert owner.spends() == [tuning.spend] * 5
    assert release.guarantee.epsilon == epsilon(owner.spends(), 1e-4)


def test_a_round_paid_for_before_a_crash_is_declined_for_ever_and_not_paid_twice(owner: Owner) -> None:
    class PowerCut(BaseException):
        pass

    def cut(*_arguments: object, **_named: object) -> SoftPrompt:
        raise PowerCut

    with pytest.raises(PowerCut):
        owner.participant(tune=cut).answer(owner.sent())
    assert len(owner.spends()) == 1
    owner.policy = replace(owner.policy, tasks=())
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.SPENT
    assert owner.refusal(owner.participant().answer(owner.sent(cohort=9))) is Refusal.SPENT
    assert len(owner.spends()) == 1
    assert owner.tunings == 0


@pytest.mark.promise("write-ahead")
def test_nothing_is_trained_before_the_spend_is_durable(owner: Owner) -> None:
    seen: list[int] = []

    def looking(*arguments: object, **named: object) -> SoftPrompt:
        with Ledger.open(owner.place) as other:
            seen.append(sum(entry.spend is not None for entry in other.entries()))
        return tune(*arguments, **named)

    owner.participant(tune=looking).answer(owner.sent())
    assert seen == [1]


def test_a_reply_that_cannot_be_kept_is_not_sent(owner: Owner) -> None:
    def breaking(*arguments: object, **named: object) -> SoftPrompt:
        prompt = tune(*arguments, **named)
        owner.ledger.close()
        return prompt

    with pytest.raises(LedgerError, match="closed database"):
        owner.participant(tune=breaking).answer(owner.sent())
    owner.ledger = Ledger.open(owner.place)
    assert owner.ledger.reply(ROUND) is None
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.SPENT


@pytest.mark.slow
def test_nothing_is_answered_from_a_full_disk_that_is_not_written_down(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    connection = owner.ledger._file._connection
    connection.execute("PRAGMA max_page_count = 10")
    wide, replies = owner.policy, list[bytes]()

    def ask_for_ever() -> None:
        for index in range(1, 100):
            owner.policy = wide if index % 2 else replace(wide, tasks=())
            replies.append(owner.participant().answer(owner.sent(round=f"campaigns/c{index}/rounds/1")))

    with pytest.raises(LedgerError, match="database or disk is full"):
        ask_for_ever()
    assert "not answered, the decline cannot be written down: " in caplog.text
    connection.execute("PRAGMA max_page_count = 10000")
    declined = {entry.subject for entry in owner.ledger.declines()}
    for reply in map(owner.read, replies):
        assert reply.round in declined if isinstance(reply, Decline) else owner.ledger.reply(reply.round)
    assert len(replies) > len(owner.spends()) > 0
    owner.policy = replace(wide, tasks=())
    late = owner.read(owner.participant().answer(owner.sent(round="campaigns/late/rounds/1")))
    assert owner.ledger.declines()[-1].subject == late.round


@pytest.mark.promise("egress")
def test_the_size_of_a_reply_and_its_fields_do_not_depend_on_the_records(
    owner: Owner, measured: Measured
) -> None:
    first = owner.participant().answer(owner.sent())
    owner.write(ROWS * 50)
    second = owner.participant().answer(owner.sent(round="campaigns/reviews/rounds/2"))
    for reply in (first, second):
        measured(bytes_of_a_reply=len(reply))
    assert len(first) == len(second)
