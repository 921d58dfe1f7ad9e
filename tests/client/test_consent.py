import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agreements import Agreements
from client.consent import Consent, Reconnect
from client.ledger import Ledger
from client.ledger_place import LedgerPlace
from client.seal import Seal
from client.vault import UNLOCKED, Vault
from transfer.errors import ConfigError, PolicyRefusedError
from transfer.model_ref import ModelRef
from transfer.privacy import Budget, Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.roster import Roster
from transfer.rounds import RoundRequest, Tuning
from transfer.tasks import Task

BUDGET = Budget(8.0, 1e-4)
EACH = Spend(2.0, 0.5, 10)


class Owner:
    """Somebody who is asked, and the client directory that remembers."""

    def __init__(self, directory: Path, ledger: Ledger) -> None:
        self.file, self.ledger, self.stop = directory / "consents.json", ledger, threading.Event()
        self.says, self.questions, self.vault = True, list[str](), UNLOCKED
        self.consent = self.started()

    def started(self) -> Consent:
        return Consent.by(self.answer, Agreements(self.file, self.vault), self.ledger, BUDGET, self.stop)

    def answer(self, question: str, _stop: threading.Event) -> bool:
        self.questions.append(question)
        return self.says


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Ledger.create(LedgerPlace(tmp_path / "ledger.db", Ed25519PrivateKey.generate())) as ledger:
        yield Owner(tmp_path, ledger)


@pytest.fixture
def first(tiny_task: Task) -> RoundRequest:
    start = SoftPrompt(torch.zeros(3, 32), ModelRef("tiny", "d" * 64))
    tuning = Tuning(EACH, clip_norm=0.5, learning_rate=0.1)
    return RoundRequest(
        "campaigns/fever/rounds/1", 3, "hospital-a", b"n" * 16, tiny_task, tuning, start, 3, Roster(())
    )


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


def test_a_campaign_that_asks_something_else_is_asked_for_again(owner: Owner, first: RoundRequest) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    others = (
        replace(first, round="campaigns/flu/rounds/1"),
        replace(first, rounds=4),
        replace(first, cohort=2),
        replace(first, task=replace(first.task, template="Fever? {text} {answer}")),
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
    assert f"ε {after:.4g} after {before:.4g} so far asked, 8 allowed" in shown
    assert "2, averaged with 2 others at least" in shown
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


def test_a_damaged_list_of_campaigns_is_refused_in_one_line(owner: Owner, first: RoundRequest) -> None:
    owner.file.write_text("[1")
    with pytest.raises(
        ConfigError, match=r"consents\.json: no list of campaigns: remove it, and be asked again"
    ):
        owner.consent.require(first)
    assert owner.questions == []


def test_a_sealed_list_of_campaigns_shows_none_and_is_taken_from_nowhere_else(
    owner: Owner, first: RoundRequest
) -> None:
    with pytest.raises(Reconnect):
        owner.consent.require(first)
    plain = owner.file.read_bytes()
    assert b"fever" in plain
    owner.file.unlink()
    owner.vault = Vault((Seal.new(1), Seal.new(2)))
    with pytest.raises(Reconnect):
        owner.started().require(first)
    owner.started().require(first)
    sealed = owner.file.read_bytes()
    assert sealed.startswith(b"promptferry-sealed 2\n")
    assert b"fever" not in sealed
    other = replace(owner.started().agreements, file=owner.file.with_name("other.json"))
    other.file.write_bytes(sealed)
    with pytest.raises(ConfigError, match=r"other\.json: no list of campaigns"):
        other.read()
    for content in (plain, sealed[:-1], sealed.replace(b"sealed 2", b"sealed 1"), b""):
        owner.file.write_bytes(content)
        with pytest.raises(ConfigError, match="remove it, and be asked again"):
            owner.started().require(first)
