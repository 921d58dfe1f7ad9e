"""One round as values: a coordinator's request to one client, and the client's reply.

Both travel as signed bytes (`transfer.protocol.signing`, `transfer.protocol.round_wire`). A request is not an order:
the client's own policy decides. Every field of a reply is public by design; nothing else leaves a data owner.
"""

import hmac
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import get_args

from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.tuning_table import Optimizer
from transfer.subspace import Subspace
from transfer.tasks import Task

ROUND_NAME = re.compile(r"campaigns/[a-z0-9][a-z0-9-]{0,62}/rounds/[1-9][0-9]{0,5}")
NONCE_BYTES = 16


LEAST_CLIP = 1e-12
LARGEST = 1e6
"""Bounds of the clipping norm and the step size: beyond them the noise grid or a step leaves floating point."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings of a client's work in one round.

    Attributes:
        spend: the privacy cost: steps T, sample rate q, noise multiplier σ and their unit.
        clip_norm: C, largest L2 norm of one unit's gradient; from 1e-12 to 1e6, where noise and grid are exact.
        learning_rate: step size at the first step, > 0 and at most 1e6.
        optimizer: how to step along the noised gradients; as post-processing it does not change the privacy cost.

    Raises:
        UsageError: `clip_norm` or `learning_rate` is out of range, NaN or ∞, or the optimiser is unknown.
    """

    spend: Spend
    clip_norm: float
    learning_rate: float
    optimizer: Optimizer = "adam"

    def __post_init__(self) -> None:
        for name, least in (("clip_norm", LEAST_CLIP), ("learning_rate", math.ulp(0.0))):
            value = getattr(self, name)
            if not least <= value <= LARGEST:
                raise UsageError(f"{name} {value} must be finite and from {least:g} to {LARGEST:g}")
        if self.optimizer not in get_args(Optimizer):
            raise UsageError(f"optimizer {self.optimizer!r} must be {' or '.join(get_args(Optimizer))}")


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """A coordinator's request to one client in one round.

    Attributes:
        round: resource name of the round.
        rounds: number of rounds of the campaign.
        client: name of the client.
        nonce: 16 bytes that bind the reply to this request.
        task: the task to tune for.
        tuning: settings of the client's work.
        prompt: the prompt that tuning starts from.
        cohort: smallest number of clients whose prompts are averaged, as promised by the coordinator.
        roster: keys of all clients that receive the same request.
        subspace: the only directions the prompt may move in, or None for all.

    Raises:
        UsageError: round name, nonce, or the shapes of prompt, head and subspace break their rules.
    """

    round: str
    rounds: int
    client: str
    nonce: bytes
    task: Task
    tuning: Tuning
    prompt: SoftPrompt
    cohort: int
    roster: Roster
    subspace: Subspace | None = None

    def __post_init__(self) -> None:
        if self.subspace and self.subspace.directions.shape[1:] != self.prompt.vectors.shape:
            raise UsageError(
                f"round {self.round}: subspace is for prompts {list(self.subspace.directions.shape[1:])}, "
                f"the prompt is {list(self.prompt.vectors.shape)}"
            )
        if not ROUND_NAME.fullmatch(self.round):
            raise UsageError(f"round name {self.round!r} is not campaigns/NAME/rounds/NUMBER")
        if len(self.nonce) != NONCE_BYTES:
            raise UsageError(f"round {self.round}: nonce has {len(self.nonce)} bytes, expected {NONCE_BYTES}")
        if self.prompt.length <= self.task.head_rows:
            raise UsageError(
                f"round {self.round}: {self.prompt.length} rows hold no prompt and a head of {self.task.head_rows}"
            )

    @property
    def proxy(self) -> ModelRef:
        """The proxy to tune on."""
        return self.prompt.model


class Refusal(Enum):
    """Why a client sends no prompt; reveals nothing about its data."""

    POLICY = 1
    BUDGET = 2
    SPENT = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Release:
    """The only result that leaves a data owner: a noised prompt and its privacy cost.

    Attributes:
        round: resource name of the round.
        client: name of the client.
        nonce: that of the request.
        prompt: the noised prompt.
        spend: this round's entry in the client's ledger.
        guarantee: ε at δ over the whole life of the client's data set, this round included.
    """

    round: str
    client: str
    nonce: bytes
    prompt: SoftPrompt
    spend: Spend
    guarantee: Guarantee


@dataclass(frozen=True, slots=True)
class Decline:
    """A client's signed refusal of one request."""

    round: str
    client: str
    nonce: bytes
    refusal: Refusal


Reply = Release | Decline


def round_name(campaign: str, index: int) -> str:
    """Return the resource name of round `index` ≥ 1 of a campaign."""
    return f"campaigns/{campaign}/rounds/{index}"


def nonce(secret: bytes, round_name: str, client: str) -> bytes:
    """Return the nonce of a round for one client: unpredictable without `secret`, the same for a repeated request."""
    return hmac.digest(secret, f"{round_name}\n{client}".encode(), "sha256")[:NONCE_BYTES]
