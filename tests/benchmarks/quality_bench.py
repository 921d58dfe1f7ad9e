"""What a cell of the quality benchmark is worth: everything loaded once, every shared prompt tuned once."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from client.private.records import PrivateRecords
from tests.benchmarks.quality_cells import (
    ALONE,
    LIBRARY,
    TRANSFERS,
    ZERO_SHOT,
    Cell,
    Condition,
    Grid,
    digest_of,
)
from tests.benchmarks.quality_federation import drawn, taken, tune_together
from tests.benchmarks.quality_library import LibraryFolder
from tests.benchmarks.quality_memory import forget_peak, peak_mib
from tests.benchmarks.quality_paper import Paper, sources
from tests.benchmarks.quality_recipe import Recipe
from transfer.files import atomic as files
from transfer.models.language_model import LanguageModel
from transfer.panda.library import TransferInput
from transfer.panda.selection import transfer_with_library
from transfer.placement.devices import numbers_of
from transfer.post.baselines import direct, logit_arithmetic, only_answers, only_change, text_prompt
from transfer.post.evaluation import Accuracy, LabelSets, accuracy, exact_match, scored
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

ONE_LOSS = {"l1": only_answers, "l2": only_change}
OnStep = Callable[[str, int, int], None]
"""Called with what is being done, steps done, steps in all."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything that is loaded once: models, task, records, and public text whose labels are never read."""

    target: LanguageModel
    proxy: LanguageModel
    control: LanguageModel
    task: Task
    private: PrivateRecords
    public: Sequence[str]
    test: PrivateRecords
    library: LibraryFolder | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A prompt and the seconds its tuning took, whenever that was."""

    prompt: SoftPrompt
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """The prompt of a method, if it has one, and what its record says of how that came about.

    Of a plain transfer `told` has the `alpha`, whatever rule chose it; of a library the `library` prompt that went
    through the whole transfer, None if there was none, and whether it was `kept`.
    """

    prompt: SoftPrompt | None
    told: Mapping[str, Any] = field(default_factory=dict)


def in_numbers(model: LanguageModel) -> str:
    """What stands behind a model's name: its numbers, or nothing in float32."""
    numbers = numbers_of(model.model)
    return "" if numbers == "float32" else f"@{numbers}"


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Measures cells of `grid`; tuned prompts are kept in `cache` by what they depend on."""

    world: World
    grid: Grid
    cache: Path
    on_step: OnStep

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The finished cell as a line of the results file.

        `seconds` are those of this cell alone and `tuning_seconds` those of the prompt it may share with
        others; `peak_mib` is the most memory held meanwhile, tuning included where it was not done before.
        """
        forget_peak()
        test = taken(self.world.test, drawn(len(self.world.test.texts), self.grid.recipe.test_rows, 0))
        tuned = None if cell.method in (*ZERO_SHOT, "paper") else self._tuned(cell)
        start = time.monotonic()
        delivered = self._delivered(cell, tuned.prompt if tuned else None)
        reached = self._reached(cell, delivered.prompt, test)
        return {
            "key": cell.key,
            "method": cell.method,
            "settings": dict(cell.settings),
            "micro": reached.micro,
            "macro": reached.macro,
            **({"exact": reached.exact} if isinstance(reached, LabelSets) else {}),
            "seconds": round(time.monotonic() - start, 3),
            "tuning_seconds": round(tuned.seconds, 3) if tuned else 0.0,
            "peak_mib": peak_mib(),
            **delivered.told,
        }

    def _reached(self, cell: Cell, prompt: SoftPrompt | None, test: PrivateRecords) -> Accuracy | LabelSets:
        """How often a method is right: F1 of several labels a text, exact match of answers in free text."""
        world = self.world
        if cell.method == "arithmetic" and prompt:
            logits = logit_arithmetic(prompt, world.proxy, world.target, world.task, test.texts)
            return scored(world.task, logits, test.labels)
        model = world.proxy if cell.method in ("proxy", "proxy-bare") else world.target
        if world.task.kind == "text":
            matched = exact_match(model, world.task, test.texts, test.answers, prompt)
            return Accuracy(matched, matched)
        return accuracy(model, world.task, test.texts, test.labels, prompt)

    def _delivered(self, cell: Cell, tuned: SoftPrompt | None) -> Delivered:
        """What a method asks a model with, given the prompt it starts from."""
        world = self.world
        if cell.method == "text":
            return Delivered(text_prompt(world.target, world.task, self.grid.recipe.prompt_length))
        if cell.method == "paper":
            return self._as_published(cell)
        if cell.method == "direct" and tuned:
            return Delivered(direct(tuned, world.target))
        return self._transferred(cell, tuned) if cell.method in TRANSFERS and tuned else Delivered(tuned)

    def _tuned(self, cell: Cell) -> Tuned:
        """The prompt tuned on private records that a cell starts from."""
        world, recipe = self.world, self.grid.recipe
        if cell.method == "ceiling":  # all steps at one go: rounds are a federation's
            recipe = replace(recipe, rounds=1, plain_steps=recipe.rounds * recipe.plain_steps)
        models = {"ceiling": world.target, "same-model": world.target, "undistilled": world.control}
        return self._prompt(models.get(cell.method, world.proxy), cell.condition, recipe)

    def _prompt(self, model: LanguageModel, condition: Condition, recipe: Recipe) -> Tuned:
        told = replace(self.grid, recipe=recipe).tuned(
            f"{model.ref.name}{in_numbers(model)} {model.ref.digest}", condition
        )
        path = self.cache / f"prompt-{digest_of(told)}.json"
        if path.exists():
            return self._kept(path, model)
        start = time.monotonic()
        prompt = tune_together(
            model, self.world.task, self._private(condition), self._public(condition),
            self._initial(model, recipe), recipe, condition,
            lambda step, steps: self.on_step(f"tuning on {model.ref.name}", step, steps),
        )  # fmt: skip
        tuned = Tuned(prompt, time.monotonic() - start)
        kept = {"settings": told, "seconds": tuned.seconds, "vectors": prompt.vectors.tolist()}
        files.replace(path, json.dumps(kept).encode())
        return tuned

    def _initial(self, model: LanguageModel, recipe: Recipe) -> SoftPrompt:
        """Where tuning starts: the task's text, or a prompt that was tuned in another run."""
        if recipe.initial == "text":
            return text_prompt(model, self.world.task, recipe.prompt_length)
        return self._kept(self.cache / recipe.initial, model).prompt

    @staticmethod
    def _kept(path: Path, model: LanguageModel) -> Tuned:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Tuned(SoftPrompt(torch.tensor(kept["vectors"]), model.ref), kept["seconds"])

    def _private(self, condition: Condition) -> PrivateRecords:
        """The records that the clients of a condition hold together."""
        everyone = drawn(len(self.world.private.texts), self.grid.recipe.train_rows, condition.seed)
        return taken(self.world.private, everyone[: max(1, round(condition.share * len(everyone)))])

    def _public(self, condition: Condition) -> list[str]:
        """The public texts of a condition's seed."""
        chosen = drawn(len(self.world.public), self.grid.recipe.public_rows, condition.seed)
        return [self.world.public[row] for row in chosen]

    def _transferred(self, cell: Cell, prompt: SoftPrompt) -> Delivered:
        """The prompt carried over to the target on public text."""
        world, seed = self.world, cell.condition.seed
        settings = replace(self.grid.transfer, seed=seed)
        texts = self._public(cell.condition)

        def on_step(step: int, steps: int) -> None:
            self.on_step(f"transferring: {cell.method}", step, steps)

        if cell.method in LIBRARY:
            return self._with_library(cell, prompt, texts, settings, on_step)
        if cell.method in ONE_LOSS:
            settings = ONE_LOSS[cell.method](settings)
        proxy = world.control if cell.method == "undistilled" else world.proxy
        moved = transfer(prompt, proxy, world.target, world.task, texts, settings, on_step)
        if world.library and cell.method in ("post", ALONE.get(self.grid.transfer.alpha)):
            world.library.keep(moved.prompt, prompt, self._guarantee(cell.condition), texts)
        return Delivered(moved.prompt, {"alpha": moved.settings.alpha})

    def _with_library(
        self,
        cell: Cell,
        prompt: SoftPrompt,
        texts: Sequence[str],
        settings: TransferSettings,
        on_step: Callable[[int, int], None],
    ) -> Delivered:
        """The same, other tasks' prompts being asked: those themselves, or the control."""
        world, library = self.world, self.world.library
        assert library, "the grid has no such method without a library"
        records = library.records() if cell.method == "library" else library.shuffled(cell.condition.seed)
        new = TransferInput(
            prompt, world.proxy, world.target, world.task, tuple(texts), world.task.name,
            self._guarantee(cell.condition),
        )  # fmt: skip
        choice = transfer_with_library(new, new.problem(settings), records, on_step)
        told = {"library": choice.finalist, "kept": choice.chosen is not None}
        return Delivered(choice.transferred.prompt, told)

    def _as_published(self, cell: Cell) -> Delivered:
        """A prompt that PANDA's paper learns from labels and a library."""
        world, records = self.world, self._private(cell.condition)
        assert world.library, "the grid has no such method without a library"
        paper = Paper(
            world.target, world.task, list(zip(records.texts, records.labels, strict=True)),
            self._public(cell.condition), replace(self.grid.transfer, seed=cell.condition.seed),
        )  # fmt: skip
        start = text_prompt(world.target, world.task, self.grid.recipe.prompt_length)
        prompt, source = paper.transferred(
            start, sources(world.library), lambda step, steps: self.on_step("PANDA's paper", step, steps)
        )
        return Delivered(prompt, {"library": source.name, "kept": True})

    def _guarantee(self, condition: Condition) -> Guarantee:
        return Guarantee(condition.epsilon, self.grid.recipe.delta)
