"""Stopwatches for work that is compared: each takes its turn between two steps of ours, and the best counts."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from transfer.models.language_model import LanguageModel
from transfer.progress import OnStep

Step = Callable[[], object]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""The second counts this process alone, of all its threads: for a machine that is shared."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A physical batch: rows, columns, and the tokens in it that are not padding, the prompt's included."""

    rows: int
    columns: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline, ready to run.

    Attributes:
        ours: runs the given number of our steps and calls back after each.
        watched: the model whose forward passes show what a step of ours consists of.
        reference: one step of the published recipe over `reference_records` records.
        bound: the bare work on rows × columns of tokens.
        plain: our step without privacy, where privacy is what the stage is about.
        records: of a step of ours, where blank rows are among those of its passes; None where every row is a record.
    """

    name: str
    ours: Callable[[int, OnStep], object]
    watched: LanguageModel
    reference: Step
    reference_records: int
    bound: Callable[[int, int], None]
    plain: Step | None = None
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Best seconds of one step of each, and what a step of ours holds."""

    stage: str
    records: int
    tokens: int
    padding: float
    ours_s: float
    reference_s: float
    reference_records: int
    bound_s: float
    plain_s: float | None = None

    def figures(self) -> dict[str, float | None]:
        """Records a second of both, their ratio, our share of the bound, and what privacy costs."""
        theirs, ours = self.reference_records / self.reference_s, self.records / self.ours_s
        return {
            "reference_records_per_s": theirs,
            "our_records_per_s": ours,
            "ratio": ours / theirs,
            "fraction_of_bound": self.bound_s / self.ours_s,
            "private_over_plain": None if self.plain_s is None else self.ours_s / self.plain_s,
        }


def measure(stage: Stage, repeats: int, clock: str = "wall") -> Result:
    """Our first step warms up and our last may measure held-out loss; in between everyone takes turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", "reference", "bound", "plain")}
    batches: list[Batch] = []
    now = _clock(clock, stage.watched.device)
    started = now()

    def on_step(step: int, steps: int) -> None:
        nonlocal started, batches
        if 1 < step < steps:
            seconds["ours"].append(now() - started)
            batches = seen.copy()
            seconds["reference"].append(timed(stage.reference, now))
            seconds["bound"].append(bound_s(stage.bound, batches, now))
            if stage.plain:
                seconds["plain"].append(timed(stage.plain, now))
        seen.clear()
        started = now()

    with watched(stage.watched) as seen:
        stage.ours(repeats + 2, on_step)
    tokens = sum(batch.tokens for batch in batches)
    return Result(
        stage=stage.name,
        records=stage.records or sum(batch.rows for batch in batches),
        tokens=tokens,
        padding=1 - tokens / sum(batch.rows * batch.columns for batch in batches),
        reference_records=stage.reference_records,
        **{f"{name}_s": min(values) for name, values in seconds.items() if values},
    )


def _clock(name: str, device: torch.device) -> Clock:
    """A clock that is read when the device has done what it was given."""
    if device.type == "cpu":
        return CLOCKS[name]

    def now() -> float:
        torch.accelerator.synchronize(device)
        return CLOCKS[name]()

    return now


@contextmanager
def watched(model: LanguageModel) -> Iterator[list[Batch]]:
    """Every physical batch that passes the model's backbone while the context is open."""
    seen: list[Batch] = []

    def note(_module: object, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = named.get("inputs_embeds")
        if given is None:
            given = named["input_ids"] if "input_ids" in named else positional[0]
        rows, columns = given.shape[:2]
        if columns == 1:  # distillation calls the head alone for states that it has
            return
        mask = named.get("attention_mask")
        seen.append(Batch(rows, columns, rows * columns if mask is None else int(mask.sum())))

    handle = model.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def timed(step: Step, now: Clock) -> float:
    """Seconds of one call."""
    start = now()
    step()
    return now() - start


def bound_s(bound: Callable[[int, int], None], batches: Sequence[Batch], now: Clock) -> float:
    """Seconds of the bare work on as many tokens as the batches hold without their padding."""
    seconds = 0.0
    for batch in batches:
        columns = -(-batch.tokens // batch.rows)
        seconds += timed(partial(bound, batch.rows, columns), now) * batch.tokens / (batch.rows * columns)
    return seconds


def input_gradient(model: LanguageModel) -> Callable[[int, int], None]:
    """The least that learning a prompt takes."""

    def bound(rows: int, columns: int) -> None:
        embeds = model.embedding[:columns].repeat(rows, 1, 1).requires_grad_(True)
        states = model.model.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        torch.autograd.grad(states.sum(), embeds)

    return bound


def weight_gradients(target: LanguageModel, proxy: PreTrainedModel) -> Callable[[int, int], None]:
    """The least that teaching a proxy takes: the target's forward pass, the proxy's forward and backward."""
    weights = [weight.requires_grad_(True) for weight in proxy.base_model.parameters()]

    def bound(rows: int, columns: int) -> None:
        embeds = target.embedding[:columns].repeat(rows, 1, 1)
        with torch.no_grad():
            target.model.base_model(inputs_embeds=embeds, use_cache=False)
        states = proxy.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        torch.autograd.grad(states.sum(), weights, allow_unused=True)

    return bound
