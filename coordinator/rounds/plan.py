"""A campaign's plan, worked on as a value and stored as self-contained JSON; `plan_file` reads it from TOML."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from coordinator.rounds.server_optimizers import optimiser
from transfer.errors import UsageError, VerificationError
from transfer.names import checked
from transfer.post.settings import TransferSettings
from transfer.privacy import epsilon
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task

AUTO, NO_LIBRARY = "auto", "none"
"""Which library prompts a transfer asks: all, or none; anything else is the name of one."""

Init = Literal["text", "vocabulary"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where the first round starts: a prompt of `length` tokens from the task's text or random words."""

    length: int
    init: Init = "text"


@dataclass(frozen=True, slots=True)
class Publication:
    """Name the result is published under, and whether it must beat its own start on public text."""

    prompt: str
    require_improvement: bool = True


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """Everything a coordinator needs to carry out a campaign.

    Attributes:
        name: used once.
        task: the task itself, not a path to it.
        proxy: name of a registered proxy.
        public_text: absolute path of unlabelled text.
        target: directory or hub name of another target than the coordinator's own; "" for its own.
        rounds: ≥ 1.
        deadline_s: seconds a round may take.
        min_clients: fewest valid prompts a round may end with.
        strategy: of `coordinator.rounds.server_optimizers`.
        tuning: what each client does in each round.
        dimensions: directions of the prompt that clients tune in, learnt from the public text; 0 for all.
        delta: δ at which ε is stated.
        seed: of everything public that is drawn.
        server: parameters of the strategy that are not to keep their defaults.
        library: AUTO, NO_LIBRARY, or the name of the one published prompt the transfer may learn from.
    """

    name: str
    task: Task
    proxy: str
    public_text: str
    target: str
    rounds: int
    deadline_s: float
    min_clients: int
    strategy: str
    start: Start
    tuning: Tuning
    dimensions: int
    delta: float
    transfer: TransferSettings
    publish: Publication
    seed: int = 0
    server: Mapping[str, float] = field(default_factory=dict)
    library: str = NO_LIBRARY

    def __post_init__(self) -> None:
        checked("campaign", self.name)
        checked("library prompt", self.library)
        checked("proxy", self.proxy)
        checked("prompt", self.publish.prompt)
        for name in ("rounds", "min_clients"):
            if getattr(self, name) < 1:
                raise UsageError(f"plan {name} {getattr(self, name)} must be ≥ 1")
        if not (math.isfinite(self.deadline_s) and self.deadline_s > 0):
            raise UsageError(f"plan deadline_s {self.deadline_s} must be finite and > 0")
        optimiser(self.strategy, self.server)
        if not 0 < self.delta < 1:
            raise UsageError(f"plan delta {self.delta} must be in (0, 1)")
        self._check_space()
        if self.library != NO_LIBRARY and not self.task.has_words:
            raise UsageError(
                f'plan transfer.library "{self.library}": prompts are compared by label words; write library = "none"'
            )

    def _check_space(self) -> None:
        if self.task.kind == "text" and self.transfer.space == "labels":
            raise UsageError('plan transfer.space "labels": free text has none; write space = "vocabulary"')
        if self.task.head_rows and self.transfer.space == "vocabulary":
            raise UsageError(
                'plan transfer.space "vocabulary": a head knows labels only; write space = "labels"'
            )

    @property
    def epsilon(self) -> float:
        """ε at `delta` a client that takes part in every round spends; ∞ without noise."""
        return epsilon([self.tuning.spend] * self.rounds, self.delta)

    def to_json(self) -> str:
        """The plan as it is stored: nothing in it refers to the file it came from."""
        return _PLAN.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "CampaignPlan":
        """Read what `to_json` wrote.

        Raises:
            VerificationError: it is no such plan; the store was written by another version or damaged.
        """
        try:
            return _PLAN.validate_json(text)
        except (ValidationError, UsageError) as error:
            reason = " ".join(str(error).split())
            raise VerificationError(f"the stored plan cannot be read: {reason}") from error


_PLAN = TypeAdapter(CampaignPlan)
