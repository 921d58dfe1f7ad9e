"""Protobuf messages ↔ values: the only file that knows both.

Decoding checks everything a value checks and turns every failure into `VerificationError`, so that a peer can
make this code say no but not misbehave.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from google.protobuf.message import DecodeError

from promptferry.v1 import common_pb2, rounds_pb2
from transfer.errors import UsageError, VerificationError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend, Unit
from transfer.prompt import SoftPrompt
from transfer.roster import Roster
from transfer.rounds import Decline, Refusal, Release, Reply, RoundRequest, Tuning
from transfer.signing import Envelope
from transfer.subspace import Subspace
from transfer.tasks import Kind, Label, LabelReading, Task


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (DecodeError, UsageError, ValueError) as error:
        raise VerificationError(f"{what} cannot be read: {error}") from error


def envelope_message(envelope: Envelope) -> common_pb2.Envelope:
    """Envelope as a message."""
    return common_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        key_id=envelope.key_id,
        signature=envelope.signature,
    )


def envelope_value(message: common_pb2.Envelope) -> Envelope:
    """Message as an envelope, unverified."""
    return Envelope(message.payload_type, message.payload, message.key_id, message.signature)


def envelope_to_bytes(envelope: Envelope) -> bytes:
    """Envelope as bytes."""
    return envelope_message(envelope).SerializeToString(deterministic=True)


def envelope_from_bytes(data: bytes) -> Envelope:
    """Bytes as an envelope, unverified.

    Raises:
        VerificationError: not an envelope.
    """
    with _reading("envelope"):
        return envelope_value(common_pb2.Envelope.FromString(data))


def model_message(model: ModelRef) -> common_pb2.ModelRef:
    """Model reference as a message."""
    return common_pb2.ModelRef(name=model.name, digest=model.digest)


def model_value(message: common_pb2.ModelRef) -> ModelRef:
    """Message as a model reference."""
    with _reading("model reference"):
        return ModelRef(message.name, message.digest)


def task_message(task: Task) -> common_pb2.Task:
    """Task as a message."""
    labels = [common_pb2.Label(name=label.name, words=label.words) for label in task.labels]
    return common_pb2.Task(
        name=task.name,
        template=task.template,
        labels=labels,
        init_text=task.init_text,
        max_tokens=task.max_tokens,
        kind=common_pb2.AnswerKind.Value(f"ANSWER_KIND_{task.kind.upper()}"),
        label_reading=common_pb2.LabelReading.Value(f"LABEL_READING_{task.label_reading.upper()}"),
        answer_tokens=task.answer_tokens,
    )


def task_value(message: common_pb2.Task) -> Task:
    """Message as a task."""
    with _reading("task"):
        labels = tuple(Label(label.name, tuple(label.words)) for label in message.labels)
        kind = common_pb2.AnswerKind.Name(message.kind).removeprefix("ANSWER_KIND_").lower()
        reading = common_pb2.LabelReading.Name(message.label_reading).removeprefix("LABEL_READING_").lower()
        return Task(
            name=message.name,
            template=message.template,
            labels=labels,
            init_text=message.init_text,
            max_tokens=message.max_tokens,
            kind=cast(Kind, kind),
            label_reading=cast(LabelReading, reading),
            answer_tokens=message.answer_tokens,
        )


def _unit_message(unit: Unit) -> rounds_pb2.Unit.ValueType:
    return rounds_pb2.Unit.Value(f"UNIT_{unit.upper()}")


def _unit_value(message: rounds_pb2.Unit.ValueType) -> Unit:
    return cast(Unit, rounds_pb2.Unit.Name(message).removeprefix("UNIT_").lower())


def request_to_bytes(request: RoundRequest) -> bytes:
    """Round request as the bytes that get signed."""
    spend = request.tuning.spend
    tuning = rounds_pb2.Tuning(
        steps=spend.steps,
        sample_rate=spend.sample_rate,
        noise_multiplier=spend.noise_multiplier,
        clip_norm=request.tuning.clip_norm,
        learning_rate=request.tuning.learning_rate,
        unit=_unit_message(spend.unit),
    )
    message = rounds_pb2.RoundRequest(
        round=request.round,
        rounds=request.rounds,
        client=request.client,
        nonce=request.nonce,
        task=task_message(request.task),
        proxy=model_message(request.proxy),
        tuning=tuning,
        prompt=request.prompt.to_bytes(),
        cohort=request.cohort,
        roster=request.roster.keys,
        subspace=request.subspace.to_bytes() if request.subspace else b"",
    )
    return message.SerializeToString(deterministic=True)


def request_from_bytes(payload: bytes) -> RoundRequest:
    """Verified payload as a round request.

    Raises:
        VerificationError: a field is missing or impossible.
    """
    with _reading("round request"):
        message = rounds_pb2.RoundRequest.FromString(payload)
        tuning = message.tuning
        return RoundRequest(
            round=message.round,
            rounds=message.rounds,
            client=message.client,
            nonce=message.nonce,
            task=task_value(message.task),
            tuning=Tuning(
                Spend(tuning.noise_multiplier, tuning.sample_rate, tuning.steps, _unit_value(tuning.unit)),
                tuning.clip_norm,
                tuning.learning_rate,
            ),
            prompt=SoftPrompt.from_bytes(message.prompt, model_value(message.proxy)),
            cohort=message.cohort,
            roster=Roster(tuple(message.roster)),
            subspace=Subspace.from_bytes(message.subspace) if message.subspace else None,
        )


def reply_to_bytes(reply: Reply) -> bytes:
    """Round reply as the bytes that get signed."""
    message = rounds_pb2.RoundReply(round=reply.round, client=reply.client, nonce=reply.nonce)
    if isinstance(reply, Decline):
        message.refusal = rounds_pb2.Refusal.ValueType(reply.refusal.value)
    else:
        message.proxy.CopyFrom(model_message(reply.prompt.model))
        message.prompt = reply.prompt.to_bytes()
        message.spend.CopyFrom(
            rounds_pb2.Spend(
                noise_multiplier=reply.spend.noise_multiplier,
                sample_rate=reply.spend.sample_rate,
                steps=reply.spend.steps,
                unit=_unit_message(reply.spend.unit),
            )
        )
        message.epsilon, message.delta = reply.guarantee.epsilon, reply.guarantee.delta
    return message.SerializeToString(deterministic=True)


def reply_from_bytes(payload: bytes) -> Reply:
    """Verified payload as a release or a decline.

    Raises:
        VerificationError: a field is missing or impossible.
    """
    with _reading("round reply"):
        message = rounds_pb2.RoundReply.FromString(payload)
        if message.refusal:
            return Decline(message.round, message.client, message.nonce, Refusal(message.refusal))
        spend, unit = message.spend, _unit_value(message.spend.unit)
        return Release(
            round=message.round,
            client=message.client,
            nonce=message.nonce,
            prompt=SoftPrompt.from_bytes(message.prompt, model_value(message.proxy)),
            spend=Spend(spend.noise_multiplier, spend.sample_rate, spend.steps, unit),
            guarantee=Guarantee(message.epsilon, message.delta, unit),
        )


def reply_fields() -> list[str]:
    """Names of every field that can leave a data owner."""
    return [field.name for field in rounds_pb2.RoundReply.DESCRIPTOR.fields]
