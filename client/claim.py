"""What a signed statement claims of a published prompt: what it is for, and how private it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from transfer.errors import UsageError, VerificationError
from transfer.model_ref import LmHead, ModelRef
from transfer.signing import Statement
from transfer.tasks import Label, Task


@dataclass(frozen=True, slots=True)
class ClientCost:
    """(ε, δ) that one data owner's records were exposed to."""

    client: str
    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class Privacy:
    """The privacy claimed: unit and adjacency, and (ε, δ) of the data owner who paid most.

    Attributes:
        epsilon: worst ε over all clients; ∞ claims nothing.
        not_private: what the claim says nothing about.
    """

    unit: str
    adjacency: str
    epsilon: float
    delta: float
    accountant: str
    clients: tuple[ClientCost, ...]
    not_private: tuple[str, ...]

    def require(self, max_epsilon: float | None, max_delta: float | None) -> None:
        """Compare with what the user accepts; None accepts anything.

        Raises:
            VerificationError: the worst client paid more.
        """
        for symbol, value, most in (("ε", self.epsilon, max_epsilon), ("δ", self.delta, max_delta)):
            if most is not None and not value <= most:
                raise VerificationError(f"the prompt claims {symbol} {value:g}, accepted is at most {most:g}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A verified statement about one prompt version, read."""

    prompt: str
    version: int
    task: Task
    target: ModelRef
    proxy: ModelRef
    lm_head: LmHead
    campaign: str
    rounds: int
    privacy: Privacy

    @staticmethod
    def of(statement: Statement) -> "Claim":
        """Read the predicate of a verified statement.

        Raises:
            VerificationError: something is missing or impossible.
        """
        told = statement.predicate
        try:
            return Claim(
                prompt=str(told["prompt"]),
                version=int(told["version"]),
                task=_task(told["task"]),
                target=_model(told["target"]),
                proxy=_model(told["proxy"]),
                lm_head=_lm_head(told),
                campaign=str(told["campaign"]),
                rounds=int(told["rounds"]),
                privacy=_privacy(told["privacy"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError, UsageError) as error:
            raise VerificationError(f"signed statement cannot be read: {error!r}") from error

    def require(self, prompt: str, version: int) -> None:
        """Refuse a statement that was signed for something else.

        Raises:
            VerificationError: it is about another prompt or version.
        """
        if (self.prompt, self.version) != (prompt, version):
            raise VerificationError(
                f"version {version} of prompt {prompt!r} was asked for, "
                f"the statement is about version {self.version} of {self.prompt!r}"
            )


def _lm_head(told: Mapping[str, Any]) -> LmHead:
    """How the target is read; earlier statements told only whether it is causal."""
    if "lm_head" not in told:
        return "causal" if bool(told["causal"]) else "masked"
    known: dict[str, LmHead] = {name: name for name in get_args(LmHead)}
    return known[told["lm_head"]]


def _privacy(told: Mapping[str, Any]) -> Privacy:
    clients = tuple(
        ClientCost(str(item["client"]), _number(item["epsilon"]), _number(item["delta"]))
        for item in told["clients"]
    )
    return Privacy(
        unit=str(told["unit"]),
        adjacency=str(told["adjacency"]),
        epsilon=max([_number(told["epsilon"]), *(client.epsilon for client in clients)]),
        delta=max([_number(told["delta"]), *(client.delta for client in clients)]),
        accountant=str(told["accountant"]),
        clients=clients,
        not_private=tuple(map(str, told["not_private"])),
    )


def _number(value: float | str) -> float:
    """ε or δ; NaN would pass every comparison and a negative one every limit."""
    number = float(value)
    if math.isnan(number) or number < 0:
        raise ValueError(f"{value!r} is neither ε nor δ")
    return number


def _task(told: Mapping[str, Any]) -> Task:
    labels = tuple(Label(str(item["name"]), tuple(map(str, item["words"]))) for item in told["labels"])
    return Task(
        name=str(told["name"]),
        template=str(told["template"]),
        labels=labels,
        init_text=str(told["init_text"]),
        max_tokens=int(told["max_tokens"]),
        **{key: told[key] for key in ("kind", "label_reading", "answer_tokens") if key in told},
    )


def _model(told: Mapping[str, Any]) -> ModelRef:
    return ModelRef(str(told["name"]), str(told["digest"]))
