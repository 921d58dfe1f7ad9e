"""The common part of signed statements: how their JSON is read, written and refused; and the statement about a proxy.

Each model below, with its nested models, is one version of one schema. A field is a key, and only this module,
`transfer.protocol.prompt_statement` and `transfer.protocol.prompt_lineage` know the keys. To change the meaning of a
key or drop one, make version 2 with a new predicate type. To add a key, give it the default that its absence meant
before, because older statements lack it. Keys that a newer writer added are not read. They remain in the signed
text, which is shown unchanged.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from transfer.errors import UsageError, VerificationError
from transfer.model_ref import ModelRef
from transfer.protocol.signing import PROXY_PREDICATE

Item = TypeVar("Item")
Many = Annotated[tuple[Item, ...], Field(strict=False)]
"""A JSON array."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Measured = Annotated[float, Field(allow_inf_nan=True)]
"""A measurement without a guarantee; NaN and ∞ are written as in Python's JSON."""

_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _parsed(value: Any) -> Any:
    return _NAMED.get(value, value) if isinstance(value, str) else value


def _named(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


_AS_TEXT = BeforeValidator(_parsed), PlainSerializer(_named, return_type=float | str)
Named = Annotated[Measured, *_AS_TEXT]
"""A number whose ∞ and NaN are strings: "inf", "-inf", "nan"."""
Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=True), *_AS_TEXT]
"""ε ≥ 0; ∞, which claims nothing, is written as "inf"."""
Delta = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    """An object inside a statement; a key in `LEFT_OUT` is written only where it differs from its default."""

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        absent = {name for name in self.LEFT_OUT if getattr(self, name) == fields[name].default}
        return {key: value for key, value in handler(self).items() if key not in absent}


class Predicate(Part):
    """The content of a statement; `TYPE` names the schema and its version."""

    TYPE: ClassVar[str]

    @classmethod
    def from_predicate(cls, predicate: Mapping[str, Any]) -> Self:
        """Read the content of a verified statement.

        Raises:
            VerificationError: a key is missing or impossible; the message names it in one line.
        """
        try:
            return cls.model_validate(dict(predicate))
        except ValidationError as error:
            raise VerificationError(f"signed statement cannot be read: {_first(error)}") from None
        except UsageError as error:
            raise VerificationError(f"signed statement cannot be read: {error}") from error

    def to_predicate(self) -> dict[str, Any]:
        """Return the content to sign, ready for JSON."""
        return self.model_dump()


class ModelV1(Part):
    """An exact model."""

    name: str
    digest: Sha256

    @staticmethod
    def of(model: ModelRef) -> "ModelV1":
        """Return `model` in the form of a statement."""
        return ModelV1(name=model.name, digest=model.digest)

    @property
    def ref(self) -> ModelRef:
        """The model as a reference."""
        return ModelRef(self.name, self.digest)


class ProxyStatement(Predicate):
    """What a coordinator signs about the files of a proxy; see `transfer.distillation.proxy.Proxy`.

    Attributes:
        proxy: the proxy itself.
        parent: the target it was cut from.
        layers: indices of the target's layers in the proxy.
        steps: optimiser steps of its distillation.
        held_out_kl: KL(target ‖ proxy) on held-out public text, in nats.
        held_out_perplexity: the proxy's perplexity there; None for models without an LM head.
        target_perplexity: the target's perplexity there; None for models without an LM head.
    """

    TYPE = PROXY_PREDICATE

    proxy: ModelV1
    parent: ModelV1
    layers: Many[Count]
    steps: Count
    held_out_kl: Measured
    held_out_perplexity: Measured | None
    target_perplexity: Measured | None


def _first(error: ValidationError) -> str:
    """Return the first mistake as one line: key, rule, and the value if it is short."""
    detail = error.errors(include_url=False)[0]
    key, value = ".".join(map(str, detail["loc"])), detail["input"]
    if detail["type"] == "missing":
        return f"{key} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    shown = (
        f", got {value!r}" if isinstance(value, str | float | bool | None) and len(str(value)) <= 60 else ""
    )
    return " ".join(f"{key}: {message[:1].lower()}{message[1:]}{shown}".split())
