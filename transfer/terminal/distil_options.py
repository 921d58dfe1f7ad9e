"""What the coordinator's and a client's `proxy` commands share: options of `distil`, and how a proxy is told of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from transfer.distillation.settings import PARTS, DistilSettings, Places, Precision, checkpoints_of
from transfer.errors import UsageError
from transfer.progress import say

DEFAULTS = DistilSettings()
FROZEN = ",".join(DEFAULTS.freeze)

Layers = Annotated[
    str, typer.Option("--layers", help="How many layers to keep (first and last), or which: 0,3,5.")
]
Steps = Annotated[int, typer.Option("--steps", min=0, help="Most optimiser steps; 0 only cuts.")]
Freeze = Annotated[
    str, typer.Option("--freeze", help="Copied parts that are not trained: embeddings, head, both or none.")
]
Arithmetic = Annotated[
    Precision, typer.Option("--precision", help="bf16 pays where the processor multiplies it natively.")
]
Accumulate = Annotated[int, typer.Option("--accumulate", min=1, help="Batches that make one step.")]
KlAt = Annotated[
    Places, typer.Option("--kl-at", help="A masked model's tokens to compare: the masked ones, or all.")
]
PromptedShare = Annotated[
    float,
    typer.Option("--prompted-share", min=0, max=1, help="Share of batches read behind a random soft prompt."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where a distillation of this name was interrupted.")
]


def parse_layers(text: str) -> int | tuple[int, ...]:
    """Read --layers: 3 is a number of layers, 0,5 are indices.

    Raises:
        UsageError: neither.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--layers {text!r} is neither a number of layers nor indices such as 0,1,11")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


def parse_freeze(text: str) -> tuple[str, ...]:
    """Read --freeze: parts with commas between them, both or none; `DistilSettings` knows which there are."""
    if text == "both":
        return PARTS
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


@contextmanager
def resumable(place: Path) -> Iterator[None]:
    """Say, when Ctrl-C ends a distillation, how it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoints_of(place).exists():
            say("its checkpoints are kept: the same command with --resume goes on from the last one")
        raise


def measured(proxy: Mapping[str, Any]) -> str:
    """What a proxy is and is worth, as one line."""
    return (
        f"layers {list(proxy['layers'])}, {proxy['steps']} steps, held-out KL {proxy['held_out_kl']:.3f}, "
        f"perplexity {shown(proxy['held_out_perplexity'])} (target {shown(proxy['target_perplexity'])})"
    )


def shown(perplexity: float | None) -> str:
    """A perplexity, or a dash for that of a model that tells no tokens."""
    return "–" if perplexity is None else f"{perplexity:.1f}"


def made(proxy: Mapping[str, Any]) -> str:
    """The same, behind name and digest."""
    return f"proxy {proxy['name']} {proxy['digest']}: {measured(proxy)}"
