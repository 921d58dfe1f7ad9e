"""A coordinator's plan as a data owner reads it: what its rounds would ask of a client, and nothing else."""

from pathlib import Path
from typing import Any

from client.policy import Ask
from transfer.errors import ConfigError, UsageError
from transfer.settings import Located, Settings, load
from transfer.tasks import Task
from transfer.tuning_defaults import MIN_CLIENTS, ROUNDS
from transfer.tuning_table import Count, TuningTable


def read(path: Path) -> Ask:
    """Read a plan file, as the coordinator's operator would launch it, and the task file it names.

    Raises:
        ConfigError: names file, table and key.
        TaskError: the task file is wrong, or is not beside the plan.
    """
    file = load(path, _PlanFile)
    try:
        spend = file.tuning.spend(file.rounds)
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from error
    return Ask(Task.from_toml(file.task).name, file.proxy, spend, file.rounds, file.min_clients)


class _PlanFile(Settings):
    """A plan's keys; those that do not concern a data owner may hold anything."""

    called = "plan"

    task: Located
    proxy: str
    rounds: Count = ROUNDS
    min_clients: Count = MIN_CLIENTS
    tuning: TuningTable

    name: Any = None
    public_text: Any = None
    target: Any = None
    deadline_s: Any = None
    strategy: Any = None
    seed: Any = None
    server: Any = None
    prompt: Any = None
    transfer: Any = None
    publish: Any = None
