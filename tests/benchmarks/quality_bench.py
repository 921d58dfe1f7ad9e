"""What a cell of the quality benchmark is worth: everything loaded once, every shared prompt tuned once."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from client.private.records import PrivateRecords
from deploy.ceiling import ceiling
from tests.benchmarks.quality_cells import (
    ALONE,
    FREE,
    LIBRARY,
    TRANSFERS,
    ZERO_SHOT,
    Cell,
    Condition,
    Grid,
    digest_of,
)
from tests.benchmarks.quality_federation import drawn, taken, tune_together
from tests.benchmarks.quality_memory import forget_peak, peak_mib
from tests.benchmarks.quality_paper import Paper, sources
from tests.benchmarks.quality_world import Delivered, Tuned, World, in_numbers
from transfer.files import atomic as files
from transfer.models.language_model import LanguageModel
from transfer.panda.library import TransferInput
from transfer.panda.selection import transfer_with_library
from transfer.post.baselines import (
    direct,
    logit_arithmetic,
    only_answers,
    only_change,
    text_prompt,
    without_prior,
)
from transfer.post.evaluation import Accuracy, LabelSets, accuracy, exact_match, scored
from transfer.post.settings import TransferSettings
from transfer.post.starts import public_answers, public_start
from transfer.post.transfer import transfer
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt

ONE_LOSS = {"l1": only_answers, "l2": only_change}
OnStep = Callable[[str, int, int], None]
"""Called with what is being done, steps done, steps in all."""


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
        tuned = None if cell.method in (*ZERO_SHOT, *FREE, "paper") else self._tuned(cell)
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
        if cell.method == "public-prior":
            public = self._public(cell.condition)
            return scored(
                world.task, without_prior(world.target, world.task, test.texts, public), test.labels
            )
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
        if cell.method == "public-start":
            return Delivered(self._public_start(world.target, cell.condition))
        if cell.method == "paper":
            return self._as_published(cell)
        if cell.method == "direct" and tuned:
            return Delivered(direct(tuned, world.target))
        return self._transferred(cell, tuned) if cell.method in TRANSFERS and tuned else Delivered(tuned)

    def _tuned(self, cell: Cell) -> Tuned:
        """The prompt tuned on private records that a cell starts from."""
        world, recipe, condition = self.world, self.grid.recipe, cell.condition
        models = {"ceiling": world.target, "same-model": world.target, "undistilled": world.control}
        model = models.get(cell.method, world.proxy)
        told = self.grid.tuned(f"{model.ref.name}{in_numbers(model)} {model.ref.digest}", condition)
        if cell.method == "ceiling":
            told |= {"restarts": recipe.restarts}
        path = self.cache / f"prompt-{digest_of(told)}.json"
        if path.exists():
            return self._kept(path, model)
        start = time.monotonic()
        initial, private = self._initial(model, condition), self._private(condition)

        def on_step(step: int, steps: int) -> None:
            self.on_step(f"tuning on {model.ref.name}", step, steps)

        if cell.method == "ceiling":
            prompt = ceiling(model, world.task, private, initial, recipe.ceiling(condition.seed), on_step)
        else:
            public = self._public(condition)
            prompt = tune_together(model, world.task, private, public, initial, recipe, condition, on_step)
        tuned = Tuned(prompt, time.monotonic() - start)
        kept = {"settings": told, "seconds": tuned.seconds, "vectors": prompt.vectors.tolist()}
        files.replace(path, json.dumps(kept).encode())
        return tuned

    def _initial(self, model: LanguageModel, condition: Condition) -> SoftPrompt:
        """Where tuning starts: the task's text, what public text teaches, or a prompt of another run."""
        recipe = self.grid.recipe
        if recipe.initial == "text":
            return text_prompt(model, self.world.task, recipe.prompt_length)
        if recipe.initial == "public":
            return self._public_start(model, condition)
        return self._kept(self.cache / recipe.initial, model).prompt

    def _public_start(self, model: LanguageModel, condition: Condition) -> SoftPrompt:
        """A prompt of a model that public text alone teaches to answer as the target does."""
        world, texts = self.world, self._public(condition)
        answers = public_answers(world.target, world.task, texts)
        length = self.grid.recipe.prompt_length
        return public_start(answers, model, world.task, texts, length, condition.seed)

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
