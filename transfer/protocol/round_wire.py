"""The messages of a round ↔ values; see `transfer.protocol.wire`."""

from promptferry.v1 import rounds_pb2
from transfer.privacy import Guarantee, Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.rounds import Decline, Refusal, Release, Reply, RoundRequest, Tuning
from transfer.protocol.wire import (
    enum_message,
    enum_value,
    model_message,
    model_value,
    reading,
    task_message,
    task_value,
)
from transfer.subspace import Subspace


def _spend_value(message: rounds_pb2.Tuning | rounds_pb2.Spend) -> Spend:
    unit = enum_value(rounds_pb2.Unit, message.unit)
    return Spend(message.noise_multiplier, message.sample_rate, message.steps, unit)


def _tuning_value(message: rounds_pb2.Tuning) -> Tuning:
    optimizer = enum_value(rounds_pb2.Optimizer, message.optimizer)
    return Tuning(_spend_value(message), message.clip_norm, message.learning_rate, optimizer)


def request_to_bytes(request: RoundRequest) -> bytes:
    """Encode a round request as the bytes to sign."""
    spend = request.tuning.spend
    tuning = rounds_pb2.Tuning(
        steps=spend.steps,
        sample_rate=spend.sample_rate,
        noise_multiplier=spend.noise_multiplier,
        clip_norm=request.tuning.clip_norm,
        learning_rate=request.tuning.learning_rate,
        unit=enum_message(rounds_pb2.Unit, spend.unit),
        optimizer=enum_message(rounds_pb2.Optimizer, request.tuning.optimizer),
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
    """Decode a verified payload as a round request.

    Raises:
        VerificationError: a field is missing or impossible.
    """
    with reading("round request"):
        message = rounds_pb2.RoundRequest.FromString(payload)
        return RoundRequest(
            round=message.round,
            rounds=message.rounds,
            client=message.client,
            nonce=message.nonce,
            task=task_value(message.task),
            tuning=_tuning_value(message.tuning),
            prompt=SoftPrompt.from_bytes(message.prompt, model_value(message.proxy)),
            cohort=message.cohort,
            roster=Roster(tuple(message.roster)),
            subspace=Subspace.from_bytes(message.subspace) if message.subspace else None,
        )


def reply_to_bytes(reply: Reply) -> bytes:
    """Encode a round reply as the bytes to sign."""
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
                unit=enum_message(rounds_pb2.Unit, reply.spend.unit),
            )
        )
        message.epsilon, message.delta = reply.guarantee.epsilon, reply.guarantee.delta
    return message.SerializeToString(deterministic=True)


def reply_from_bytes(payload: bytes) -> Reply:
    """Decode a verified payload as a release or a decline.

    Raises:
        VerificationError: a field is missing or impossible.
    """
    with reading("round reply"):
        message = rounds_pb2.RoundReply.FromString(payload)
        if message.refusal:
            return Decline(message.round, message.client, message.nonce, Refusal(message.refusal))
        spend = _spend_value(message.spend)
        return Release(
            round=message.round,
            client=message.client,
            nonce=message.nonce,
            prompt=SoftPrompt.from_bytes(message.prompt, model_value(message.proxy)),
            spend=spend,
            guarantee=Guarantee(message.epsilon, message.delta, spend.unit),
        )


def reply_fields() -> list[str]:
    """Return the names of all fields that can leave a data owner."""
    return [field.name for field in rounds_pb2.RoundReply.DESCRIPTOR.fields]
