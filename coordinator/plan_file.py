"""A plan as a person writes it, in TOML.

The noise is fixed when the plan is read: whoever gives ε gets the multiplier that all rounds together need.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from coordinator.aggregation import DEFAULT
from coordinator.config import TargetSettings, located
from coordinator.plan import NO_LIBRARY, CampaignPlan, Init, Publication, Start
from coordinator.strategy import optimiser
from transfer.errors import ConfigError, UsageError
from transfer.privacy import Spend, Unit, calibrate
from transfer.rounds import Tuning
from transfer.settings import Located, Settings, load
from transfer.tasks import Task
from transfer.transfer_settings import Space, TransferSettings
from transfer.transfer_settings import Start as TransferStart

PROMPT_LENGTH = 5
ROUNDS, MIN_CLIENTS, DEADLINE_S = 3, 3, 600.0
STEPS, SAMPLE_RATE, CLIP_NORM = 80, 0.0625, 1.0
LEARNING_RATE, SUBSPACE_LEARNING_RATE = 0.02, 0.05
"""The latter for coordinates in a subspace, each of which moves a whole prompt a little."""
DIMENSIONS = 32
"""Under noise and with labels; otherwise the whole prompt is tuned."""
DELTA = 1e-6

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def read(path: Path) -> CampaignPlan:
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


class _StartTable(Settings):
    length: Count = PROMPT_LENGTH
    init: Init = "text"


class _TuningTable(Settings):
    epsilon: Positive | None = None
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = DELTA
    unit: Unit = "record"
    steps: Count = STEPS
    sample_rate: Annotated[float, Field(gt=0, le=1)] = SAMPLE_RATE
    clip_norm: Positive = CLIP_NORM
    learning_rate: Positive | None = None
    dimensions: Annotated[int, Field(ge=0)] | None = None

    def directions(self, task: Task) -> int:
        """How many directions are tuned in, 0 for all."""
        if self.dimensions is not None:
            return self.dimensions
        noisy = self.noise_multiplier != 0 and self.epsilon != math.inf
        return DIMENSIONS if noisy and task.kind == "label" else 0

    def tuning(self, rounds: int, dimensions: int) -> Tuning:
        """One round's tuning, with the noise all rounds together need."""
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise UsageError("[tuning] needs epsilon (inf for no privacy) or noise_multiplier, not both")
        noise = self.noise_multiplier
        if self.epsilon is not None:
            noise = calibrate(self.epsilon, self.delta, self.sample_rate, self.steps * rounds)
        usual = SUBSPACE_LEARNING_RATE if dimensions else LEARNING_RATE
        spend = Spend(noise or 0.0, self.sample_rate, self.steps, self.unit)
        return Tuning(spend, self.clip_norm, self.learning_rate or usual)


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
        dimensions = self.tuning.directions(task)
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
            tuning=self.tuning.tuning(self.rounds, dimensions),
            dimensions=dimensions,
            delta=self.tuning.delta,
            transfer=self.transfer.settings(self.seed),
            publish=Publication(self.publish.prompt, self.publish.require_improvement),
            seed=self.seed,
            server=self.server,
            library=self.transfer.library,
        )
