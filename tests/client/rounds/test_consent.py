import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.rounds.agreements import Agreements
from client.rounds.consent import Reconnect
from tests.client.rounds.answers import BUDGET, EACH, Owner
from transfer.errors import PolicyRefusedError
from transfer.model_ref import ModelRef
from transfer.privacy import Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import RoundRequest


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Ledger.create(LedgerPlace(tmp_path / "ledger.db", Ed25519PrivateKey.generate())) as ledger:
        yield Owner(tmp_path, ledger)


def test_a_yes_is_asked_for_once_and_outlives_the_daemon(owner: Owner, first: RoundRequest) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    second = replace(first, round="campaigns/fever/rounds/2", nonce=b"m" * 16)
    for consent in (owner.consent, owner.started()):
        consent.require(first)
        consent.require(second)
    assert len(owner.questions) == 1


def test_a_no_holds_until_the_daemon_is_started_anew(owner: Owner, first: RoundRequest) -> None:
    owner.says = False
    for _ in range(2):
        with pytest.raises(PolicyRefusedError, match="you do not take part in campaign fever"):
            owner.consent.require(first)
    assert len(owner.questions) == 1
    assert not owner.file.exists()
    with pytest.raises(PolicyRefusedError):
        owner.started().require(first)
    assert len(owner.questions) == 2


@pytest.mark.slow
def test_a_campaign_that_asks_something_else_is_asked_for_again(owner: Owner, first: RoundRequest) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    others = (
        replace(first, round="campaigns/flu/rounds/1"),
        replace(first, rounds=4),
        replace(first, cohort=2),
        replace(first, task=replace(first.task, template="Fever? {text} {answer}")),
        replace(first, task=replace(first.task, chat=True)),
        replace(first, task=replace(first.task, chat=True, system="Be kind.")),
        replace(first, tuning=replace(first.tuning, spend=Spend(1.9, 0.5, 10))),
        replace(first, prompt=SoftPrompt(first.prompt.vectors, ModelRef("tiny", "e" * 64))),
    )
    owner.says = False
    for number, other in enumerate(others, 2):
        with pytest.raises(PolicyRefusedError):
            owner.consent.require(other)
        assert len(owner.questions) == number
    owner.consent.require(first)


def test_the_owner_is_shown_what_the_rest_of_the_campaign_costs(owner: Owner, first: RoundRequest) -> None:
    data_set = owner.ledger.data_set([b"f" * 32])
    owner.ledger.reserve(data_set, "campaigns/old/rounds/1", EACH, BUDGET)
    with pytest.raises(Reconnect):
        owner.consent.require(replace(first, round="campaigns/fever/rounds/2"))
    before, after = (epsilon([EACH] * count, BUDGET.delta) for count in (1, 3))
    shown = owner.questions[0]
    assert f"would bring ε from {before:.4g} to {after:.4g}; the limit is 8, at δ" in shown
    assert "2, averaged with at least 2 others" in shown
    assert "10 steps, noise 2, rate 0.5" in shown
    assert first.task.name in shown
    assert "d" * 64 in shown


def test_a_question_cut_short_by_the_end_of_the_daemon_is_no_answer(
    owner: Owner, first: RoundRequest
) -> None:
    owner.says = False
    owner.stop.set()
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    owner.stop.clear()
    with pytest.raises(PolicyRefusedError):
        owner.consent.require(first)
    assert len(owner.questions) == 2


def test_what_was_agreed_to_before_there_were_chats_or_several_labels_is_still_agreed_to(
    owner: Owner, first: RoundRequest
) -> None:
    new = ("chat", "system", "prompt_at", "many", "threshold")
    task = {key: value for key, value in asdict(first.task).items() if key not in new}
    task["labels"] = [{"name": label.name, "words": label.words} for label in first.task.labels]
    facts = [task, first.proxy.digest, asdict(first.tuning.spend), first.rounds, first.cohort]
    shown = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    Agreements(owner.file).add("fever", shown)
    owner.consent.require(first)
    assert not owner.questions


def test_the_owner_is_shown_who_says_what_in_a_chat(owner: Owner, first: RoundRequest) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(replace(first, task=replace(first.task, chat=True, system="Be kind.")))
    assert " (a chat's user turn, behind the system turn 'Be kind.')" in owner.questions[0]


def test_the_owner_is_told_of_several_labels_and_asked_again_if_a_weight_changes(
    owner: Owner, first: RoundRequest
) -> None:
    labels = tuple(replace(label, words=()) for label in first.task.labels)
    task = replace(first.task, template="{text}", labels=labels, label_reading="head", many=True)
    heavy = replace(task, labels=(replace(labels[0], weight=3.0), *labels[1:]))
    for asked in (task, heavy, replace(task, threshold=0.9)):
        with pytest.raises(Reconnect):
            owner.consent.require(replace(first, task=asked))
        assert "{text} (any number of labels a text)" in owner.questions[-1]
    assert len(owner.questions) == 3
