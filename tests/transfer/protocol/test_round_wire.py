"""Requests and replies survive the wire exactly, and nothing else is read."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptferry.v1 import rounds_pb2
from tests.transfer.protocol.messages import RELEASE, REQUEST, WORDS
from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend, Unit
from transfer.prompt import SoftPrompt
from transfer.protocol import round_wire
from transfer.protocol.roster import KEY_BYTES, Roster
from transfer.protocol.rounds import NONCE_BYTES, Decline, Refusal, Release, RoundRequest, Tuning, round_name
from transfer.protocol.tuning_table import Optimizer
from transfer.protocol.wire import task_message
from transfer.tasks import Kind, Label, Task

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)


CHATS = ({}, {"chat": True}, {"chat": True, "system": "Be kind.\n\nAnd brief.", "prompt_at": "user"})
ROUNDS = st.builds(round_name, NAMES, st.integers(1, 999_999))
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


MODELS = st.builds(ModelRef, NAMES, st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
SPENDS = st.builds(
    Spend,
    st.just(0.0) | st.floats(1e-3, 1e6),
    st.floats(0, 1, exclude_min=True),
    st.integers(1, 2**31 - 1),
    st.sampled_from(get_args(Unit)),
)


@st.composite
def prompts(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return SoftPrompt(torch.randn(shape, generator=generator), draw(MODELS))


@st.composite
def tasks(draw):
    words = draw(st.lists(WORDS, min_size=4, max_size=6, unique=True))
    names = draw(st.lists(WORDS, min_size=2, max_size=2, unique=True))
    labels = (Label(names[0], tuple(words[:2])), Label(names[1], tuple(words[2:])))
    init = draw(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip))
    tokens = st.integers(1, 1_000_000)
    kind = draw(st.sampled_from(get_args(Kind)))
    return Task(
        name=draw(NAMES),
        template="{text} It was {answer}.",
        labels=labels if kind == "label" else (),
        init_text=init,
        max_tokens=draw(tokens),
        kind=kind,
        label_reading=draw(st.sampled_from(("single", "first", "whole"))),
        answer_tokens=draw(tokens),
        **draw(st.sampled_from(CHATS)),
    )


REQUESTS = st.builds(
    RoundRequest,
    round=ROUNDS,
    rounds=st.integers(1, 1000),
    client=NAMES,
    nonce=NONCES,
    task=tasks(),
    tuning=st.builds(
        Tuning, SPENDS, st.floats(1e-12, 1e6), st.floats(1e-300, 1e6), st.sampled_from(get_args(Optimizer))
    ),
    prompt=prompts(),
    cohort=st.integers(0, 1000),
    roster=st.builds(Roster.of, st.sets(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), max_size=4)),
)
GUARANTEES = st.builds(
    Guarantee, st.floats(0, 1e9) | st.just(math.inf), st.floats(0, 1, exclude_min=True, exclude_max=True)
)
REPLIES = st.builds(Decline, ROUNDS, NAMES, NONCES, st.sampled_from(Refusal)) | st.builds(
    lambda *told: Release(*told[:-1], replace(told[-1], unit=told[-2].unit)),
    *(ROUNDS, NAMES, NONCES, prompts(), SPENDS, GUARANTEES),
)


def fields(value):
    """All fields, the prompt as its bytes and model: tensors do not compare."""
    found = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if "prompt" in found:
        found["prompt"] = (value.prompt.to_bytes(), value.prompt.model)
    if found.get("subspace"):
        found["subspace"] = value.subspace.to_bytes()
    return found


@settings(deadline=None, max_examples=60)
@given(REQUESTS)
def test_a_request_survives_the_wire_exactly(request):
    data = round_wire.request_to_bytes(request)
    received = round_wire.request_from_bytes(data)
    assert fields(received) == fields(request)
    assert round_wire.request_to_bytes(received) == data


def test_a_request_that_counts_a_key_twice_is_not_read():
    message = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(REQUEST))
    message.roster.append(message.roster[-1])
    with pytest.raises(VerificationError, match="round request cannot be read: the roster's keys"):
        round_wire.request_from_bytes(message.SerializeToString())


def test_a_request_takes_its_subspace_along():
    received = round_wire.request_from_bytes(round_wire.request_to_bytes(REQUEST))
    assert fields(received) == fields(REQUEST)
    assert received.subspace.dimensions == 4


@settings(deadline=None, max_examples=60)
@given(REPLIES)
def test_a_reply_survives_the_wire_exactly(reply):
    data = round_wire.reply_to_bytes(reply)
    received = round_wire.reply_from_bytes(data)
    assert type(received) is type(reply)
    assert fields(received) == fields(reply)
    assert round_wire.reply_to_bytes(received) == data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"refusal": 99}, "99 is not a valid Refusal"),
        ({"prompt": b""}, "prompt is not a safetensors file"),
        ({"epsilon": math.nan}, "ε nan"),
        ({"delta": 0.0}, "δ 0.0"),
        ({"spend": rounds_pb2.Spend()}, "sample rate 0.0"),
    ],
)
def test_an_impossible_field_of_a_reply_is_named(change, says):
    message = rounds_pb2.RoundReply.FromString(round_wire.reply_to_bytes(RELEASE))
    for name, value in change.items():
        if name == "spend":
            message.spend.CopyFrom(value)
        else:
            setattr(message, name, value)
    with pytest.raises(VerificationError, match=says) as caught:
        round_wire.reply_from_bytes(message.SerializeToString())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"round": "campaigns/first"}, "round name"),
        ({"nonce": b"short"}, "nonce"),
        ({"tuning": rounds_pb2.Tuning(steps=0, sample_rate=0.5)}, "steps 0"),
        ({"proxy": None}, "digest"),
        ({"task": None}, "task"),
    ],
)
def test_an_impossible_field_of_a_request_is_named(change, says):
    message = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(REQUEST))
    for name, value in change.items():
        message.ClearField(name)
        if isinstance(value, rounds_pb2.Tuning):
            message.tuning.CopyFrom(value)
        elif value is not None:
            setattr(message, name, value)
    with pytest.raises(VerificationError, match=says):
        round_wire.request_from_bytes(message.SerializeToString())


def test_nothing_but_these_fields_can_leave_a_data_owner():
    assert round_wire.reply_fields() == [
        "round",
        "client",
        "nonce",
        "proxy",
        "refusal",
        "prompt",
        "spend",
        "epsilon",
        "delta",
    ]
    spend = rounds_pb2.Spend.DESCRIPTOR.fields
    assert [field.name for field in spend] == ["noise_multiplier", "sample_rate", "steps", "unit"]


def test_messages_from_before_there_was_a_unit_mean_the_record_and_its_bytes_are_theirs():
    for data, read, part in (
        (round_wire.request_to_bytes(REQUEST), round_wire.request_from_bytes, "tuning"),
        (round_wire.reply_to_bytes(RELEASE), round_wire.reply_from_bytes, "spend"),
    ):
        kind = rounds_pb2.RoundRequest if part == "tuning" else rounds_pb2.RoundReply
        told = {field.name for field, _ in getattr(kind.FromString(data), part).ListFields()}
        assert "unit" not in told
        value = read(data)
        assert (value.tuning.spend if part == "tuning" else value.spend).unit == "record"
    assert round_wire.reply_from_bytes(round_wire.reply_to_bytes(RELEASE)).guarantee.unit == "record"


def test_the_unit_goes_out_with_the_question_and_comes_back_with_cost_and_guarantee():
    spend = replace(RELEASE.spend, unit="user")
    asked = replace(REQUEST, tuning=replace(REQUEST.tuning, spend=spend))
    assert round_wire.request_from_bytes(round_wire.request_to_bytes(asked)).tuning.spend == spend
    release = replace(RELEASE, spend=spend, guarantee=Guarantee(2.5, 1e-6, "user"))
    received = round_wire.reply_from_bytes(round_wire.reply_to_bytes(release))
    assert (received.spend, received.guarantee) == (spend, release.guarantee)


def test_a_unit_nobody_knows_is_refused():
    request = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(REQUEST))
    reply = rounds_pb2.RoundReply.FromString(round_wire.reply_to_bytes(RELEASE))
    request.tuning.unit = reply.spend.unit = 7
    for message, read in ((request, round_wire.request_from_bytes), (reply, round_wire.reply_from_bytes)):
        with pytest.raises(VerificationError, match="7"):
            read(message.SerializeToString())


def test_an_adam_request_has_the_bytes_from_before_there_was_a_choice():
    message = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(REQUEST))
    assert "optimizer" not in {field.name for field, _ in message.tuning.ListFields()}
    sgd = round_wire.request_to_bytes(replace(REQUEST, tuning=replace(REQUEST.tuning, optimizer="sgd")))
    assert rounds_pb2.RoundRequest.FromString(sgd).tuning.optimizer == rounds_pb2.OPTIMIZER_SGD
    assert round_wire.request_from_bytes(sgd).tuning.optimizer == "sgd"


def test_an_optimizer_nobody_knows_is_refused_in_one_line():
    request = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(REQUEST))
    request.tuning.optimizer = 7
    with pytest.raises(VerificationError, match=r"round request cannot be read: .*Optimizer .*7") as caught:
        round_wire.request_from_bytes(request.SerializeToString())
    assert "\n" not in str(caught.value)


def test_a_decline_carries_no_prompt_and_no_cost():
    data = round_wire.reply_to_bytes(Decline(RELEASE.round, "alice", RELEASE.nonce, Refusal.BUDGET))
    present = {field.name for field, _ in rounds_pb2.RoundReply.FromString(data).ListFields()}
    assert present == {"round", "client", "nonce", "refusal"}


def test_a_request_about_a_task_read_by_a_head_comes_back_the_same():
    labels = (Label("a", ()), Label("b", ()))
    task = Task("t", "About {text}", labels, "Init.", label_reading="head")
    request = replace(REQUEST, task=task, prompt=REQUEST.prompt.longer(2), subspace=None)
    assert round_wire.request_from_bytes(round_wire.request_to_bytes(request)).task == task


def test_a_plain_task_has_the_bytes_it_had_before_there_were_chats() -> None:
    written = {field.name for field, _value in task_message(REQUEST.task).ListFields()}
    assert written.isdisjoint({"chat", "system", "prompt_at"})
    chat = replace(REQUEST.task, chat=True, system="Be kind.", prompt_at="user")
    new = task_message(chat)
    for key in ("chat", "system", "prompt_at"):
        new.ClearField(key)
    assert new.SerializeToString() == task_message(REQUEST.task).SerializeToString()


MANY = Task(
    "t", "About {text}", (Label("a", (), 2.5), Label("b", ())), "Init.", label_reading="head", many=True
)


@pytest.mark.parametrize("task", [MANY, replace(MANY, threshold=0.25)])
def test_several_labels_a_text_survive_the_wire_with_weights_and_threshold(task):
    request = replace(REQUEST, task=task, prompt=REQUEST.prompt.longer(2), subspace=None)
    assert round_wire.request_from_bytes(round_wire.request_to_bytes(request)).task == task


def test_one_label_a_text_has_the_bytes_it_had_before_there_could_be_several():
    plain = replace(MANY, many=False, labels=(Label("a", ()), Label("b", ())))
    message = task_message(replace(MANY, threshold=0.25))
    for key in ("many", "threshold"):
        message.ClearField(key)
    message.labels[0].ClearField("weight")
    assert message.SerializeToString() == task_message(plain).SerializeToString()
    assert not message.labels[1].HasField("weight")


@pytest.mark.parametrize(("field", "value"), [("threshold", 0.0), ("threshold", 1.5), ("weight", 0.0)])
def test_an_impossible_threshold_or_weight_is_refused_in_one_line(field, value):
    request = replace(REQUEST, task=MANY, prompt=REQUEST.prompt.longer(2), subspace=None)
    message = rounds_pb2.RoundRequest.FromString(round_wire.request_to_bytes(request))
    setattr(message.task if field == "threshold" else message.task.labels[1], field, value)
    with pytest.raises(VerificationError, match=f"{field} {value}") as caught:
        round_wire.request_from_bytes(message.SerializeToString())
    assert "\n" not in str(caught.value)
