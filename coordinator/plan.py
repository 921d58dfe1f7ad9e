"""A campaign's plan: written as TOML by a person, stored as self-contained JSON, worked on as a value.

The noise is fixed when the plan is read: whoever gives ε gets the multiplier that all rounds together need.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from coordinator.aggregation import DEFAULT
from coordinator.config import TargetSettings, located
from coordinator.strategy import optimiser
from transfer.errors import ConfigError, UsageError, VerificationError
from transfer.names import checked
from transfer.post import Space, TransferSettings
from transfer.privacy import Spend, calibrate, epsilon
from transfer.problem import Start as TransferStart
from transfer.rounds import Tuning
from transfer.settings import Located, Settings, load
from transfer.tasks import Task

PROMPT_LENGTH = 5
ROUNDS, MIN_CLIENTS, DEADLINE_S = 3, 3, 600.0
STEPS, SAMPLE_RATE, CLIP_NORM, LEARNING_RATE = 20, 0.25, 1.0, 0.02
DIMENSIONS = 0
DELTA = 1e-6
AUTO, NO_LIBRARY = "auto", "none"
"""Which library prompts a transfer asks: all, or none; anything else is the name of one."""

Init = Literal["text", "vocabulary"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Start:
    """Where the first round starts: a prompt of `length` tokens from the task's text or random words."""

    length: int = PROMPT_LENGTH
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
        strategy: of `coordinator.strategy`.
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

    def _check_space(self) -> None:
        if self.task.kind == "text" and self.transfer.space == "labels":
            raise UsageError('plan transfer.space "labels": free text has none; write space = "vocabulary"')
        if self.task.kind == "text" and self.dimensions:
            raise UsageError(f"plan tuning.dimensions {self.dimensions}: free text has no labels; write 0")
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

    @staticmethod
    def from_toml(path: Path) -> "CampaignPlan":
        """Read a plan file and the task file it names; relative paths start at the plan file.

        Raises:
            ConfigError: names file, table and key.
            TaskError: the task file is wrong.
        """
        file = load(path, _PlanFile)
        task = Task.from_toml(file.task)
        try:
            return file.plan(task, path.parent)
        except UsageError as error:
            raise ConfigError(f"{path}: {error}") from error


_PLAN = TypeAdapter(CampaignPlan)


class _StartTable(Settings):
    length: Count = PROMPT_LENGTH
    init: Init = "text"


class _TuningTable(Settings):
    epsilon: Positive | None = None
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = DELTA
    steps: Count = STEPS
    sample_rate: Annotated[float, Field(gt=0, le=1)] = SAMPLE_RATE
    clip_norm: Positive = CLIP_NORM
    learning_rate: Positive = LEARNING_RATE
    dimensions: Annotated[int, Field(ge=0)] = DIMENSIONS

    def tuning(self, rounds: int) -> Tuning:
        """One round's tuning, with the noise all rounds together need."""
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise UsageError("[tuning] needs epsilon (inf for no privacy) or noise_multiplier, not both")
        noise = self.noise_multiplier
        if self.epsilon is not None:
            noise = calibrate(self.epsilon, self.delta, self.sample_rate, self.steps * rounds)
        return Tuning(Spend(noise or 0.0, self.sample_rate, self.steps), self.clip_norm, self.learning_rate)


class _TransferTable(Settings):
    alpha: float | None = None
    temperature: float | None = None
    space: Space | None = None
    steps: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    start: TransferStart | None = None
    held_out: float | None = None
    check_every: Count | None = None
    library: str = NO_LIBRARY

    def settings(self, seed: int) -> TransferSettings:
        """The measured defaults, but for what the file says."""
        return replace(TransferSettings(seed=seed), **self.model_dump(exclude={"library"}, exclude_none=True))


class _PublishTable(Settings):
    prompt: str
    require_improvement: bool = True


class _PlanFile(Settings):
    name: str
    task: Located
    proxy: str
    public_text: Located
    target: str = ""
    rounds: Count = ROUNDS
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DEADLINE_S
    min_clients: Count = MIN_CLIENTS
    strategy: str = DEFAULT
    seed: int = 0
    server: dict[str, float] = Field(default_factory=dict)
    prompt: _StartTable = _StartTable()
    tuning: _TuningTable
    transfer: _TransferTable = _TransferTable()
    publish: _PublishTable

    def plan(self, task: Task, directory: Path) -> CampaignPlan:
        """The plan as a value, with the noise calibrated."""
        optimiser(self.strategy, self.server)  # a mistake there is told before the noise, which takes a while
        return CampaignPlan(
            name=self.name,
            task=task,
            proxy=self.proxy,
            public_text=str(self.public_text.resolve()),
            target=located(TargetSettings(source=self.target), directory).source if self.target else "",
            rounds=self.rounds,
            deadline_s=self.deadline_s,
            min_clients=self.min_clients,
            strategy=self.strategy,
            start=Start(self.prompt.length, self.prompt.init),
            tuning=self.tuning.tuning(self.rounds),
            dimensions=self.tuning.dimensions,
            delta=self.tuning.delta,
            transfer=self.transfer.settings(self.seed),
            publish=Publication(self.publish.prompt, self.publish.require_improvement),
            seed=self.seed,
            server=self.server,
            library=self.transfer.library,
        )
