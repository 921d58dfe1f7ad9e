"""What signed statements have in common: how their JSON is read, written and refused; and what is said of a proxy.

A model below, its nested models included, is one version of one schema: a field is a key, and nothing but this file
and `transfer.protocol.prompt_statement` knows the keys. What changes the meaning of a key, or drops one, is
version 2 and a
new predicate type. A key may be added with a default that says what its absence meant, as older statements lack it.
Keys that a newer writer added are not read; they stay in what was signed, which is shown as it is.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

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
"""A measurement, about which nothing is promised; NaN and ∞ as Python's JSON has them."""

_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _parsed(value: Any) -> Any:
    return _NAMED.get(value, value) if isinstance(value, str) else value


def _named(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


_AS_TEXT = BeforeValidator(_parsed), PlainSerializer(_named, return_type=float | str)
Named = Annotated[Measured, *_AS_TEXT]
"""A number whose ∞ and NaN are strings: "inf", "-inf", "nan"."""
Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=True), *_AS_TEXT]
"""ε ≥ 0; ∞, which claims nothing, is "inf"."""
Delta = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    """An object inside a statement."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Predicate(Part):
    """What a statement says; `TYPE` names the schema and its version."""

    TYPE: ClassVar[str]

    @classmethod
    def from_predicate(cls, predicate: Mapping[str, Any]) -> Self:
        """Read what a verified statement says.

        Raises:
            VerificationError: a key is missing or impossible; one line that names it.
        """
        try:
            return cls.model_validate(dict(predicate))
        except ValidationError as error:
            raise VerificationError(f"signed statement cannot be read: {_first(error)}") from None
        except UsageError as error:
            raise VerificationError(f"signed statement cannot be read: {error}") from error

    def to_predicate(self) -> dict[str, Any]:
        """What is signed, ready for JSON."""
        return self.model_dump()


class ModelV1(Part):
    """An exact model."""

    name: str
    digest: Sha256

    @staticmethod
    def of(model: ModelRef) -> "ModelV1":
        """`model` as a statement has it."""
        return ModelV1(name=model.name, digest=model.digest)

    @property
    def ref(self) -> ModelRef:
        """The model as code compares it."""
        return ModelRef(self.name, self.digest)


class ProxyStatement(Predicate):
    """What a coordinator signs about the files of a proxy.

    Attributes:
        parent: the target it was cut from.
        layers: indices of the target's layers it kept.
        steps: optimiser steps of its distillation.
        held_out_kl: see `transfer.distillation.proxy.Proxy`, as of the perplexities; None of models that
        tell no tokens.
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
    """The first mistake as one line: key, rule, and the value if it is short."""
    detail = error.errors(include_url=False)[0]
    key, value = ".".join(map(str, detail["loc"])), detail["input"]
    if detail["type"] == "missing":
        return f"{key} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    shown = (
        f", got {value!r}" if isinstance(value, str | float | bool | None) and len(str(value)) <= 60 else ""
    )
    return " ".join(f"{key}: {message[:1].lower()}{message[1:]}{shown}".split())
