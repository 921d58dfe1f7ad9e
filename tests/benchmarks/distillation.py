"""Tokens a second and peak memory of distillation, of this code or of another checkout.

    python -m tests.benchmarks.distillation --model DIR --texts FILE.jsonl
    PYTHONPATH=OTHER python OTHER/tests/benchmarks/distillation.py --model DIR --texts FILE.jsonl

Each run is a process of its own, so that its peak of memory is its own, and prints one line of JSON. Start this code
and the other checkout by turns, on a machine that does nothing else. Tokens are those that the target reads in
training steps, without padding; loading and held-out measurements are in the peak of memory and not in the seconds.
"""

import json
import resource
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from transfer.distillation.distil import DistilSettings, distil
from transfer.distillation.layers import spread
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.terminal.placement_options import Placed, spelled_out

NEVER = 10**6
"""Steps between held-out measurements, so that none is among the steps that are timed."""


@spelled_out()
def main(
    model: Annotated[Path, typer.Option(help="Directory of the target.")],
    texts: Annotated[Path, typer.Option(help="Public text.")],
    count: Annotated[int, typer.Option(help="Texts to read of it.")] = 200,
    layers: Annotated[int, typer.Option(help="Layers of the proxy.")] = 6,
    steps: Annotated[int, typer.Option(help="Optimiser steps; the first and the last are not timed.")] = 5,
    *,
    placed: Placed,
) -> None:
    """Print tokens a second, by the clock and of processor time, the share that is no padding, and peak memory."""
    target = load(model, placement=placed.over())
    real = padded = 0

    def read(_module: object, _inputs: object, named: dict[str, Any]) -> None:
        nonlocal real, padded
        mask = named.get("attention_mask")
        if mask is not None and mask.shape[1] > 1:  # neither a probe nor a head that reads states
            real, padded = real + int(mask.sum()), padded + mask.numel()

    marks: list[tuple[float, float, int, int]] = []

    def on_step(_step: int, _kl: float) -> None:
        marks.append((time.perf_counter(), time.process_time(), real, padded))

    handle = target.backbone.register_forward_pre_hook(read, with_kwargs=True)
    settings = DistilSettings(steps=steps, check_every=NEVER)
    proxy = distil(target, spread(layers, target.layers), read_texts(texts)[:count], settings, on_step)
    handle.remove()
    wall, cpu, tokens, places = (last - first for first, last in zip(marks[0], marks[-2], strict=True))
    told = {
        "tokens_per_second": round(tokens / wall, 1),
        "tokens_per_cpu_second": round(tokens / cpu, 1),
        "not_padding": round(tokens / places, 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "threads": torch.get_num_threads(),
        "held_out_kl": proxy.held_out_kl,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    typer.run(main)
