"""The grid of the quality benchmark: which cells there are, and what each depends on.

A cell is one accuracy: a method and exactly those settings that could change its result. Two runs that agree
on them share the cell; any other value makes another cell.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from tests.benchmarks.quality_recipe import Recipe
from transfer.errors import UsageError
from transfer.post.settings import TransferSettings
from transfer.tasks import Task

ZERO_SHOT = ("bare", "text", "proxy-bare")
FREE = ("public-prior", "public-start")
"""Those that cost no privacy either, and ask public text."""
CENTRAL = ("ceiling", "paper")
"""Those that have all records in one place, and no noise."""
LIBRARY = ("library", "shuffled")
TRANSFERS = ("l1", "l2", "post", "undistilled", *LIBRARY)
FEDERATED = ("same-model", "proxy", "direct", "arithmetic", *TRANSFERS)
SHELVED = (*LIBRARY, "paper")
"""Those that need prompts of other tasks, and label words."""
BY_WORDS = (*SHELVED, *FREE)
"""Those without a meaning where a head reads the answers."""
BY_LABELS = ("arithmetic", *BY_WORDS)
"""Those without a meaning where answers are free text."""
ALONE = {0.0: "l1", 1.0: "l2"}
"""What POST is called at an α that leaves one of its losses."""
ALL = (*ZERO_SHOT, *FREE, "ceiling", *FEDERATED)
METHODS = (*ALL, "paper")
LATER = {"imitate": "change", "restarts": 0, "length": 0, "formats": 1}
"""Settings of a transfer that cells name only where they differ: older cells have none, and keep their keys."""
DESCENT = ("steps", "batch_size", "learning_rate", "held_out", "check_every")
"""Settings of a transfer that have nothing to do with its loss."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Who tunes: `clients` that together hold a `share` of the records, each at `epsilon`, drawn by `seed`."""

    epsilon: float
    clients: int
    share: float
    seed: int

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise UsageError(f"epsilon {self.epsilon} must be > 0; inf for no privacy")
        if self.clients < 1:
            raise UsageError(f"clients {self.clients} must be ≥ 1")
        if not 0 < self.share <= 1 + 1e-9:
            raise UsageError(f"{self.clients} clients cannot hold a share of {self.share:g} of the records")

    @staticmethod
    def central(seed: int) -> "Condition":
        """Everybody's records in one place, and no noise."""
        return Condition(math.inf, 1, 1.0, seed)

    @property
    def private(self) -> bool:
        """Whether noise is asked for."""
        return math.isfinite(self.epsilon)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the cells are about, by name and digest."""

    target: str
    task: str
    proxy: str
    private: str
    public: str
    test: str
    library: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One accuracy to measure."""

    method: str
    condition: Condition
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Short digest of method and settings."""
        return digest_of({"method": self.method, **self.settings})


def digest_of(value: Mapping[str, Any]) -> str:
    """16 hex digits of a JSON object, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def described(task: Task) -> dict[str, Any]:
    """A task's fields; of one label a text, those it had before there could be several, so cells keep their keys."""
    told = asdict(task)
    if not task.many:
        del told["many"], told["threshold"]
        for label in told["labels"]:
            del label["weight"]
    return told


@dataclass(frozen=True, slots=True)
class Axes:
    """What a grid runs over; `share` is what all clients hold together, or what `each` of them holds."""

    methods: Sequence[str]
    epsilons: Sequence[float]
    clients: Sequence[int]
    seeds: int
    share: float = 1.0
    each: bool = False

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise UsageError(f"no method {method!r}; choose of {', '.join(METHODS)}, or all")
        for seed in range(self.seeds):
            list(self.conditions(seed))

    def conditions(self, seed: int) -> Iterator[Condition]:
        """Every federation of one seed."""
        for epsilon, clients in product(self.epsilons, self.clients):
            yield Condition(epsilon, clients, self.share * (clients if self.each else 1), seed)

    def chosen(self, among: Sequence[str]) -> list[str]:
        """Those of some methods that the grid has."""
        return [method for method in among if method in self.methods]


@dataclass(frozen=True, slots=True)
class Grid:
    """Every cell of a run, in an order in which those of one tuned prompt follow each other."""

    inputs: Inputs
    recipe: Recipe
    transfer: TransferSettings
    axes: Axes

    def cells(self) -> Iterator[Cell]:
        """The cells."""
        axes = self.axes
        for method in axes.chosen(ZERO_SHOT):
            yield self.cell(method, Condition.central(0))
        for seed in range(axes.seeds):
            for method in axes.chosen((*FREE, *CENTRAL)):
                yield self.cell(method, Condition.central(seed))
            for condition, method in product(axes.conditions(seed), axes.chosen(FEDERATED)):
                if method != "same-model" or condition.private:  # without noise it is the ceiling's
                    yield self.cell(method, condition)

    def twin(self, cell: Cell) -> Cell | None:
        """The cell that is the same computation under another name."""
        alone = ALONE.get(self.transfer.alpha)
        return self.cell(alone, cell.condition) if alone and cell.method == "post" else None

    def cell(self, method: str, condition: Condition) -> Cell:
        """A cell with the settings its result depends on, and no others."""
        inputs, recipe = self.inputs, self.recipe
        settings: dict[str, Any] = {
            "target": inputs.target,
            "task": inputs.task,
            "test": inputs.test,
            "test_rows": recipe.test_rows,
        }
        if method not in ("bare", "text", "same-model", *FREE, *CENTRAL):
            settings["proxy"] = inputs.proxy  # of the undistilled one it says which layers
        if method in FEDERATED:
            settings |= self._tuned(condition) | self._federation(condition)
        if method in TRANSFERS:
            settings |= self._transferred(alpha=method not in ("l1", "l2"))
        if method in SHELVED:
            settings["library"] = inputs.library
        return Cell(method, condition, settings | self._alone(method, condition))

    def _alone(self, method: str, condition: Condition) -> dict[str, Any]:
        """What only one or two methods depend on."""
        length, seed = {"prompt_length": self.recipe.prompt_length}, {"seed": condition.seed}
        told = {
            "text": length,
            "public-prior": self._public | seed,
            "public-start": self._public | seed | length,
            "ceiling": self._tuned(condition) | self._restarts,
            "paper": self._labelled(condition),
        }
        return told.get(method, {})

    def tuned(self, model: str, condition: Condition) -> dict[str, Any]:
        """What a prompt tuned on `model` depends on."""
        told = {"model": model, "task": self.inputs.task}
        return told | self._tuned(condition) | self._federation(condition)

    def _tuned(self, condition: Condition) -> dict[str, Any]:
        plain = ("plain_steps", "plain_lot", "plain_learning_rate")
        noisy = "delta", "steps", "sample_rate", "clip_norm", "learning_rate", "dimensions"
        names = ("prompt_length", "rounds", "train_rows", *(noisy if condition.private else plain))
        told = {name: getattr(self.recipe, name) for name in names} | self._directions(condition)
        if self.recipe.initial != "text":
            told["initial"] = self.recipe.initial
        if self.recipe.initial == "public":
            told |= self._public
        return told | {"private": self.inputs.private, "seed": condition.seed}

    def _directions(self, condition: Condition) -> dict[str, Any]:
        if not (condition.private and self.recipe.dimensions):
            return {}
        return self._public if self.recipe.directions == "public" else {"directions": self.recipe.directions}

    def _federation(self, condition: Condition) -> dict[str, Any]:
        told = {
            "epsilon": condition.epsilon if condition.private else "inf",
            "clients": condition.clients,
            "share": round(condition.share, 9),
        }
        if condition.clients == 1:  # nothing to deal, nothing to combine
            return told | {"partition": "iid"}
        return told | {"partition": self.recipe.partition, "strategy": self.recipe.strategy}

    def _transferred(self, *, alpha: bool) -> dict[str, Any]:
        settings = asdict(self.transfer)
        left_out = {name for name, value in LATER.items() if settings[name] == value}
        left_out |= {"seed"} if alpha else {"seed", "alpha"}  # L1 and L2 are what they are
        told = {f"transfer_{name}": value for name, value in settings.items() if name not in left_out}
        return told | self._public

    def _labelled(self, condition: Condition) -> dict[str, Any]:
        told = {name: getattr(self.recipe, name) for name in ("prompt_length", "train_rows")}
        told |= {f"transfer_{name}": getattr(self.transfer, name) for name in DESCENT}
        return told | {"private": self.inputs.private, "seed": condition.seed} | self._public

    @property
    def _restarts(self) -> dict[str, Any]:
        return {"restarts": self.recipe.restarts} if self.recipe.restarts else {}

    @property
    def _public(self) -> dict[str, Any]:
        return {"public": self.inputs.public, "public_rows": self.recipe.public_rows}
