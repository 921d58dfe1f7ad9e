"""Options of `proxy distil` and the one-line description of a proxy, shared by both sides' commands."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from transfer.distillation.settings import PARTS, DistilSettings, Places, Precision, checkpoints_of
from transfer.errors import UsageError
from transfer.names import checked
from transfer.progress import doing, say

DEFAULTS = DistilSettings()
FROZEN = ",".join(DEFAULTS.freeze)

Layers = Annotated[
    str, typer.Option("--layers", help="Number of layers to keep (first and last), or their indices: 0,3,5.")
]
Steps = Annotated[
    int, typer.Option("--steps", min=0, help="Largest number of optimiser steps; 0 only cuts the layers.")
]
Freeze = Annotated[
    str, typer.Option("--freeze", help="Copied parts that are not trained: embeddings, head, both or none.")
]
Arithmetic = Annotated[
    Precision, typer.Option("--precision", help="bf16 is faster where the processor multiplies it natively.")
]
Accumulate = Annotated[int, typer.Option("--accumulate", min=1, help="Batches per optimiser step.")]
KlAt = Annotated[
    Places, typer.Option("--kl-at", help="Tokens of a masked model to compare: the masked ones, or all.")
]
PromptedShare = Annotated[
    float,
    typer.Option("--prompted-share", min=0, max=1, help="Share of batches read behind a random soft prompt."),
]
Shard = Annotated[
    bool, typer.Option("--shard", help="Divide the layers among the processes that torchrun started.")
]
Text = Annotated[
    Path | None, typer.Option("--text", help="Public text: .jsonl, .txt, .parquet, or a directory of these.")
]
Name = Annotated[str, typer.Option("--name", help="Name of the proxy, [a-z0-9-].")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Tell the proxy's size and what its distillation needs, by config.json; make nothing.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted distillation of this name.")]


def parse_layers(text: str) -> int | tuple[int, ...]:
    """Read --layers: 3 is a number of layers, 0,5 are indices.

    Raises:
        UsageError: `text` is neither.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--layers {text!r} is neither a number of layers nor indices such as 0,1,11")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


def parse_freeze(text: str) -> tuple[str, ...]:
    """Read --freeze: parts separated by commas, both or none; `DistilSettings` checks the parts."""
    if text == "both":
        return PARTS
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def require(text: Path | None, name: str, *, dry_run: bool) -> None:
    """Refuse a command without --text or --name, unless it is a dry run, and a malformed name.

    Raises:
        UsageError: names the option.
    """
    for option, given in (("--text", text), ("--name", name)):
        if not (given or dry_run):
            raise UsageError(f"missing option {option}: only --dry-run does without")
    if name:
        checked("proxy", name)


@contextmanager
def together() -> Iterator[None]:
    """Within the block, this process works with the others that torchrun started, if it did."""
    if _processes() == 1:
        yield
        return
    with doing("loading PyTorch"):
        from transfer.distillation.processes import joined
    with joined():
        yield


def require_several(*, shard: bool) -> None:
    """Refuse --shard in a process that torchrun did not start with others.

    Raises:
        UsageError: this is the only process.
    """
    if shard and _processes() == 1:
        raise UsageError(
            "--shard divides layers among several processes, and this is one alone; start the command by "
            "`torchrun --standalone --nproc-per-node N --no-python`"
        )


def _processes() -> int:
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


@contextmanager
def resumable(place: Path) -> Iterator[None]:
    """Within the block, let Ctrl-C end a distillation with advice on how to continue it."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoints_of(place).exists():
            say("checkpoints are kept; run the same command with --resume to continue from the last one")
        raise


def summary(proxy: Mapping[str, Any]) -> str:
    """Return layers, steps and measurements of a proxy in one line."""
    return (
        f"layers {list(proxy['layers'])}, {proxy['steps']} steps, held-out KL {proxy['held_out_kl']:.3f}, "
        f"perplexity {shown(proxy['held_out_perplexity'])} (target {shown(proxy['target_perplexity'])})"
    )


def shown(perplexity: float | None) -> str:
    """Return a perplexity as text; a dash for a model without an LM head."""
    return "–" if perplexity is None else f"{perplexity:.1f}"


def headline(proxy: Mapping[str, Any]) -> str:
    """Return name, digest and `summary` of a proxy in one line."""
    return f"proxy {proxy['name']} {proxy['digest']}: {summary(proxy)}"
