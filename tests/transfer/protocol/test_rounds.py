from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.rounds import NONCE_BYTES, Refusal, RoundRequest, Tuning, nonce, round_name
from transfer.tasks import Label, Task

TASK = Task("t", "{text} {answer}", (Label("a", ("x",)), Label("b", ("y",))), "Init.")
PROMPT = SoftPrompt(torch.zeros(2, 3), ModelRef("proxy", "0" * 64))
TUNING = Tuning(Spend(1.0, 0.5, 10), 1.0, 0.1)
REQUEST = RoundRequest(
    "campaigns/first/rounds/1", 3, "alice", bytes(NONCE_BYTES), TASK, TUNING, PROMPT, 3, Roster(())
)


def test_a_request_is_about_the_model_its_prompt_is_for():
    assert REQUEST.proxy == PROMPT.model


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.integers(1, 999_999))
def test_every_round_of_a_campaign_has_a_valid_name(campaign, index):
    assert replace(REQUEST, round=round_name(campaign, index)).round.endswith(f"/{index}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "first/1",
        "campaigns/first/rounds/0",
        "campaigns/first/rounds/01",
        "campaigns/first/rounds/1\n",
        "campaigns/First/rounds/1",
        "campaigns/-first/rounds/1",
        "campaigns/../rounds/1",
        "campaigns/first/rounds/1/",
        "campaigns/first/rounds/1234567",
        "campaigns/" + "a" * 64 + "/rounds/1",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match="round name"):
        replace(REQUEST, round=name)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_nonce_has_16_bytes(size):
    with pytest.raises(UsageError, match=f"nonce has {size} bytes"):
        replace(REQUEST, nonce=bytes(size))


def test_a_nonce_is_the_same_when_asked_again_and_differs_for_everything_else():
    arguments = (b"s" * 32, "campaigns/first/rounds/1", "alice")
    changed = [
        (b"t" * 32, *arguments[1:]),
        (arguments[0], "campaigns/first/rounds/2", "alice"),
        (*arguments[:2], "bob"),
    ]
    nonces = [nonce(*arguments), *(nonce(*other) for other in changed)]
    assert nonce(*arguments) == nonces[0]
    assert len(set(nonces)) == 4
    assert {len(value) for value in nonces} == {NONCE_BYTES}


@pytest.mark.parametrize("field", ["clip_norm", "learning_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_tuning_needs_finite_positive_settings(field, value):
    with pytest.raises(UsageError, match=field):
        replace(TUNING, **{field: value})


def test_tuning_knows_its_optimizers():
    with pytest.raises(UsageError, match="optimizer 'lion' must be adam or sgd"):
        replace(TUNING, optimizer="lion")


def test_a_refusal_says_nothing_about_data():
    assert {refusal.name for refusal in Refusal} == {"POLICY", "BUDGET", "SPENT", "FAILED"}
    assert 0 not in {refusal.value for refusal in Refusal}  # 0 on the wire is "does not refuse"


def test_a_head_needs_rows_and_a_prompt_before_it():
    labels = (Label("a", ()), Label("b", ()))
    task = Task("t", "{text}", labels, "Init.", label_reading="head")
    assert replace(REQUEST, task=task, prompt=PROMPT.longer(1)).prompt.length == 3
    with pytest.raises(UsageError, match="2 rows hold no prompt and a head of 2"):
        replace(REQUEST, task=task)
