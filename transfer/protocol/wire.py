"""Protobuf messages ↔ values: those that several messages hold. `round_wire` has the messages of a round.

No other file knows both. Decoding checks everything a value checks and turns every failure into
`VerificationError`, so that a peer can make this code say no but not misbehave.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError

from promptferry.v1 import common_pb2
from transfer.errors import UsageError, VerificationError
from transfer.model_ref import ModelRef
from transfer.protocol.signing import Envelope
from transfer.tasks import Label, Task


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever goes wrong within into a `VerificationError` about `what`."""
    try:
        yield
    except (DecodeError, UsageError, ValueError) as error:
        raise VerificationError(f"{what} cannot be read: {error}") from error


def enum_message(enum: Any, word: str) -> Any:
    """The number that a generated `enum` has for a word: SOME_ENUM_WORD of `SomeEnum` for "word"."""
    return enum.Value(_prefix(enum) + word.upper())


def enum_value(enum: Any, message: Any) -> Any:
    """The word of a number; a ValueError, which `reading` knows, if it has none."""
    return enum.Name(message).removeprefix(_prefix(enum)).lower()


def _prefix(enum: Any) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"


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
    with reading("envelope"):
        return envelope_value(common_pb2.Envelope.FromString(data))


def model_message(model: ModelRef) -> common_pb2.ModelRef:
    """Model reference as a message."""
    return common_pb2.ModelRef(name=model.name, digest=model.digest)


def model_value(message: common_pb2.ModelRef) -> ModelRef:
    """Message as a model reference."""
    with reading("model reference"):
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
        kind=enum_message(common_pb2.AnswerKind, task.kind),
        label_reading=enum_message(common_pb2.LabelReading, task.label_reading),
        answer_tokens=task.answer_tokens,
    )


def task_value(message: common_pb2.Task) -> Task:
    """Message as a task."""
    with reading("task"):
        labels = tuple(Label(label.name, tuple(label.words)) for label in message.labels)
        return Task(
            name=message.name,
            template=message.template,
            labels=labels,
            init_text=message.init_text,
            max_tokens=message.max_tokens,
            kind=enum_value(common_pb2.AnswerKind, message.kind),
            label_reading=enum_value(common_pb2.LabelReading, message.label_reading),
            answer_tokens=message.answer_tokens,
        )
