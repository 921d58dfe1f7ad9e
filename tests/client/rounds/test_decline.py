"""Every error of a round is one kind of refusal and one line for the owner, which quotes no private record."""

import copy
import io
import logging
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from client.ledger.reservation import Stopped
from client.rounds.decline import Reason, reason_of
from tests.client.rounds.owner import ROUND, ROWS, Owner, leaking
from transfer.errors import (
    BudgetRefusedError,
    DataError,
    ModelError,
    PolicyRefusedError,
    UnavailableError,
)
from transfer.protocol.rounds import Refusal, Release, RoundRequest
from transfer.protocol.signing import Envelope, sign

TRY = "try `promptferry-client data check`"


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (
            PolicyRefusedError("not this"),
            Reason(Refusal.POLICY, "not this"),
            Reason(Refusal.POLICY, "not this"),
        ),
        (BudgetRefusedError("spent"), Reason(Refusal.BUDGET, "spent"), Reason(Refusal.BUDGET, "spent")),
        (ModelError("no x"), Reason(Refusal.FAILED, "no x"), Reason(Refusal.FAILED, f"ModelError; {TRY}")),
        (DataError("line 3"), Reason(Refusal.FAILED, "line 3"), Reason(Refusal.FAILED, f"DataError; {TRY}")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_once_private_text_is_open_only_policy_and_budget_say_more_than_a_class(
    error: Exception, before: Reason, after: Reason
) -> None:
    assert reason_of(error, opened=False) == before
    assert reason_of(error, opened=True) == after


@pytest.mark.parametrize("opened", [False, True])
def test_an_error_of_another_library_is_never_quoted(opened: bool) -> None:
    failed = Reason(Refusal.FAILED, f"ValueError; {TRY}")
    assert reason_of(ValueError("secret-diagnosis"), opened=opened) == failed


def test_a_round_that_its_owner_stopped_may_be_asked_again() -> None:
    reason = reason_of(Stopped(), opened=True)
    assert reason == Reason(Refusal.FAILED, "abandoned, the daemon is stopping; it may be asked again")


def test_a_request_declined_again_is_in_the_ledger_once_for_each_reason(owner: Owner) -> None:
    asked, wide = owner.sent(), owner.policy
    owner.policy = replace(wide, tasks=())
    for _ in range(3):
        participant = owner.participant()
        replies = {participant.answer(asked), participant.answer(asked)}
        assert [owner.refusal(reply) for reply in replies] == [Refusal.POLICY]
        owner.ledger.close()
        owner.ledger = Ledger.open(owner.place)
    owner.policy = replace(wide, min_cohort=4)
    owner.participant().answer(asked)
    assert owner.declines() == [
        Declined(ROUND, "policy", "policy tasks: 'reviews' asked, none allowed"),
        Declined(ROUND, "policy", "policy min_cohort: 3 asked, at least 4 allowed"),
    ]


def test_what_a_server_says_is_one_line_in_log_and_ledger(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    def says(_asked: RoundRequest) -> None:
        raise UnavailableError("no\nERROR all is lost\x1b[2J\u202e")

    owner.participant(consent=says).answer(owner.sent())
    told = "no�ERROR all is lost�[2J�"
    assert owner.declines() == [Declined(ROUND, "failed", told)]
    assert caplog.messages == [f"{ROUND}: declined: failed: {told}"]


def test_each_round_that_is_over_says_to_its_owner_why(owner: Owner) -> None:
    def paid_elsewhere(_asked: RoundRequest) -> None:
        process = copy.copy(owner)
        with Ledger.open(owner.place) as process.ledger:
            assert isinstance(owner.read(process.participant().answer(sent[0])), Release)

    rounds = [ROUND, "campaigns/other/rounds/1"]
    sent = [owner.sent(round=name) for name in rounds]
    assert owner.refusal(owner.participant(consent=paid_elsewhere).answer(sent[0])) is Refusal.SPENT
    assert owner.refusal(owner.participant().answer(owner.sent(cohort=2))) is Refusal.POLICY
    assert owner.refusal(owner.participant(tune=leaking(1)).answer(sent[1])) is Refusal.FAILED
    assert owner.refusal(owner.participant().answer(sent[1])) is Refusal.SPENT
    assert owner.declines() == [
        Declined(rounds[0], "spent", "paid for by another process"),
        Declined(rounds[0], "policy", "another request for this round was answered before"),
        Declined(rounds[1], "failed", f"ValueError; {TRY}"),
        Declined(rounds[1], "spent", "paid for before, but stopped before the reply"),
    ]
    assert len(owner.spends()) == 2


def test_a_decline_is_durable_before_it_is_signed(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def looking(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> Envelope:
        with Ledger.open(owner.place) as other:
            seen.append(len(other.declines()))
        return sign(payload, payload_type, key)

    monkeypatch.setattr("client.rounds.release.sign", looking)
    owner.policy = replace(owner.policy, tasks=())
    owner.participant().answer(owner.sent())
    assert seen == [1]


def test_a_label_the_task_does_not_know_fails_the_round_without_being_quoted(owner: Owner, caplog) -> None:
    owner.write([*ROWS, ("fine", "secret-diagnosis")])
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.FAILED
    assert "DataError" in caplog.text
    assert "secret-diagnosis" not in caplog.text
    assert owner.spends() == []


def test_a_log_that_cannot_be_written_does_not_print_private_text(owner: Owner, capfd) -> None:
    stream = io.StringIO()
    stream.close()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        answer = owner.participant(tune=leaking(1)).answer(owner.sent())
    finally:
        logging.getLogger().removeHandler(handler)
    assert owner.refusal(answer) is Refusal.FAILED
    printed = capfd.readouterr().err
    assert "I/O operation on closed file" in printed
    assert ROWS[0][0] not in printed
