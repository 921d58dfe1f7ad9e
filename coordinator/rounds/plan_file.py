"""The plan file: a campaign's plan in TOML, as an operator writes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from coordinator.home.settings import TargetSettings, located
from coordinator.rounds.aggregation import DEFAULT
from coordinator.rounds.plan import NO_LIBRARY, CampaignPlan, Init, Publication, Start
from transfer.errors import ConfigError, UsageError
from transfer.files.toml import Located, Settings, load
from transfer.placement.settings import Quantised
from transfer.post.settings import Imitated, Space, TransferSettings
from transfer.post.settings import Start as TransferStart
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.protocol.tuning_defaults import MIN_CLIENTS, PROMPT_LENGTH, ROUNDS
from transfer.protocol.tuning_table import Count, Positive, TuningTable
from transfer.tasks import Task

DEADLINE_S = 600.0


def read(path: Path, check: Callable[[CampaignPlan], None] = lambda _draft: None) -> CampaignPlan:
    """Read a plan file and its task file; relative paths start at the plan file's directory.

    Args:
        path: the plan file.
        check: receives the plan without its noise, whose calibration may take a minute; raises to refuse the plan.

    Raises:
        ConfigError: the plan file is not valid; the message names file, table and key.
        TaskError: the task file is not valid.
    """
    file = load(path, _PlanFile)
    task = Task.from_toml(file.task)
    with _named(path):
        draft = file.draft(task, path.parent)
    check(draft)
    with _named(path):
        spend = file.tuning.spend(file.rounds)
        return replace(draft, tuning=replace(draft.tuning, spend=spend))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error


class _StartTable(Settings):
    length: Count = PROMPT_LENGTH
    init: Init = "text"


class _TransferTable(Settings):
    alpha: float | str | None = None
    imitate: Imitated | None = None
    temperature: float | None = None
    space: Space | None = None
    steps: Count | None = None
    restarts: int | None = None
    length: int | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    start: TransferStart | None = None
    held_out: float | None = None
    check_every: Count | None = None
    formats: Count | None = None
    library: str = NO_LIBRARY

    def settings(self, seed: int) -> TransferSettings:
        """Return the measured defaults, overridden by the values in the file."""
        return replace(TransferSettings(seed=seed), **self.model_dump(exclude={"library"}, exclude_none=True))


class _PublishTable(Settings):
    prompt: str
    require_improvement: bool = True
    twins: tuple[Quantised, ...] = ()
    formats: int | None = None
    triggers: bool = False


class _PlanFile(Settings):
    called = "plan"

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
    tuning: TuningTable
    transfer: _TransferTable = _TransferTable()
    publish: _PublishTable

    def draft(self, task: Task, directory: Path) -> CampaignPlan:
        """Return the plan as a value, without its noise."""
        tuning, dimensions = self.tuning, self.tuning.directions(task)
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
            tuning=Tuning(
                Spend(0.0, tuning.sample_rate, tuning.steps, tuning.unit),
                tuning.clip_norm,
                tuning.step_size(dimensions),
                tuning.optimizer,
            ),
            dimensions=dimensions,
            delta=tuning.delta,
            transfer=self.transfer.settings(self.seed),
            publish=Publication(**self.publish.model_dump(exclude_none=True)),
            seed=self.seed,
            server=self.server,
            library=self.transfer.library,
        )
