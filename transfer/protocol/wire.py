"""Conversion between protobuf messages and values, for parts of several messages; `round_wire` has those of a round.

Decoding checks everything that a value's constructor checks, and turns every failure into a `VerificationError`. A
hostile peer can cause a refusal, but nothing else.
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
    """Turn every decoding error in the block into a `VerificationError` about `what`."""
    try:
        yield
    except (DecodeError, UsageError, ValueError) as error:
        raise VerificationError(f"{what} cannot be read: {error}") from error


def enum_message(enum: Any, word: str) -> Any:
    """Return the number of a word in a generated `enum`: that of SOME_ENUM_WORD in `SomeEnum` for "word"."""
    return enum.Value(_prefix(enum) + word.upper())


def enum_value(enum: Any, message: Any) -> Any:
    """Return the word of a number, or raise a ValueError, which `reading` converts, if there is none."""
    return enum.Name(message).removeprefix(_prefix(enum)).lower()


def _prefix(enum: Any) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"


def envelope_message(envelope: Envelope) -> common_pb2.Envelope:
    """Convert an envelope to a message."""
    return common_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        key_id=envelope.key_id,
        signature=envelope.signature,
    )


def envelope_value(message: common_pb2.Envelope) -> Envelope:
    """Convert a message to an envelope without verifying it."""
    return Envelope(message.payload_type, message.payload, message.key_id, message.signature)


def envelope_to_bytes(envelope: Envelope) -> bytes:
    """Encode an envelope."""
    return envelope_message(envelope).SerializeToString(deterministic=True)


def envelope_from_bytes(data: bytes) -> Envelope:
    """Decode an envelope without verifying it.

    Raises:
        VerificationError: `data` is not an envelope.
    """
    with reading("envelope"):
        return envelope_value(common_pb2.Envelope.FromString(data))


def model_message(model: ModelRef) -> common_pb2.ModelRef:
    """Convert a model reference to a message."""
    return common_pb2.ModelRef(name=model.name, digest=model.digest)


def model_value(message: common_pb2.ModelRef) -> ModelRef:
    """Convert a message to a model reference."""
    with reading("model reference"):
        return ModelRef(message.name, message.digest)


def task_message(task: Task) -> common_pb2.Task:
    """Convert a task to a message."""
    labels = [
        common_pb2.Label(name=label.name, words=label.words, weight=_unless(1.0, label.weight))
        for label in task.labels
    ]
    return common_pb2.Task(
        name=task.name,
        template=task.template,
        labels=labels,
        init_text=task.init_text,
        max_tokens=task.max_tokens,
        kind=enum_message(common_pb2.AnswerKind, task.kind),
        label_reading=enum_message(common_pb2.LabelReading, task.label_reading),
        answer_tokens=task.answer_tokens,
        chat=task.chat,
        system=task.system,
        prompt_at=enum_message(common_pb2.PromptAt, task.prompt_at),
        many=task.many,
        threshold=_unless(0.5, task.threshold),
    )


def _unless(default: float, value: float) -> float | None:
    """Return None, which is not written, for the default: older tasks keep their bytes."""
    return None if value == default else value


def task_value(message: common_pb2.Task) -> Task:
    """Convert a message to a task."""
    with reading("task"):
        labels = tuple(
            Label(label.name, tuple(label.words), label.weight if label.HasField("weight") else 1.0)
            for label in message.labels
        )
        return Task(
            name=message.name,
            template=message.template,
            labels=labels,
            init_text=message.init_text,
            max_tokens=message.max_tokens,
            kind=enum_value(common_pb2.AnswerKind, message.kind),
            label_reading=enum_value(common_pb2.LabelReading, message.label_reading),
            answer_tokens=message.answer_tokens,
            chat=message.chat,
            system=message.system,
            prompt_at=enum_value(common_pb2.PromptAt, message.prompt_at),
            many=message.many,
            threshold=message.threshold if message.HasField("threshold") else 0.5,
        )
