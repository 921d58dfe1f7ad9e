"""What it costs that the shape of a private pass tells of nobody else: fixed shapes beside shapes made to measure.

    python -m tests.benchmarks.passes --config gpt2-small --layers 3 --out FILE.json
    python -m tests.benchmarks.passes --model DIR --layers 3 --texts FILE.jsonl --out FILE.json

One noised step over so many records as a plan expects is taken both ways in turn, on records drawn anew each time: in
the passes of `tune`, and in groups of similar length, closed before padding passes `FORWARD_PADDING` and no blank
rows, as tuning did before. The ratio is of the sums of CPU seconds.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from client.private.dpsgd import NoisyOptimizer, Tuned, noisy_step
from client.private.noise import NoiseSource
from tests.benchmarks import reference
from tests.benchmarks.workload import CONFIGS, TASK, made_up_texts, proxy_of, target_of
from transfer.files.public_text import read_texts
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import label_loss
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task
from transfer.terminal.console import Format, FormatOption, application, emit, run
from transfer.terminal.placement_options import Placed, spelled_out
from transfer.tokens.batches import physical_batches

POOL = 3000
PROMPT = 10


def made_to_measure(
    model: LanguageModel, data: LabelledLines, chosen: Sequence[int], tuned: Tuned, optimizer: NoisyOptimizer
) -> None:
    """One step in passes of whatever shape is least work: no record's gradient is quite its own."""
    vectors = tuned.vectors()
    groups = list(physical_batches(data.lines, chosen, len(vectors), 1))
    for group in groups:
        batch = model.collate([data.lines[index] for index in group])
        rows = vectors.expand(len(group), -1, -1).clone().requires_grad_(True)
        losses = label_loss(model.logits(batch, rows, data.words), data.labels[group])
        tuned.parameter.grad_sample = torch.autograd.grad(losses.sum(), rows)[0]  # type: ignore[attr-defined]
        optimizer.signal_skip_step(do_skip=group is not groups[-1])
        optimizer.step()
        optimizer.zero_grad()


def compare(
    model: LanguageModel, task: Task, texts: Sequence[str], records: int, steps: int
) -> dict[str, Any]:
    """CPU seconds a step of `records` both ways, and their ratio."""
    encoder = model.encoder(task)
    passes = Passes.expecting(records, task.max_tokens, model.width)
    labels = torch.arange(len(texts)) % len(task.labels)
    data = LabelledLines(encoder.encode(texts), labels, encoder.words, passes)
    tuned = Tuned(model.text_prompt(task.init_text, PROMPT).vectors)
    asked = Tuning(Spend(1.0, records / len(texts), steps), reference.CLIP_NORM, reference.LEARNING_RATE)
    optimizer = NoisyOptimizer(tuned.parameter, asked, records, NoiseSource())
    ways: dict[str, Callable[[list[int]], None]] = {
        "fixed": lambda chosen: noisy_step(model, data, chosen, tuned, optimizer),
        "made_to_measure": lambda chosen: made_to_measure(model, data, chosen, tuned, optimizer),
    }
    seconds, draw = dict.fromkeys(ways, 0.0), random.Random(0)
    for step in range(steps + 1):
        chosen = draw.sample(range(len(texts)), records)
        for name, way in ways.items():
            started = time.process_time()
            way(chosen)
            seconds[name] += (time.process_time() - started) if step else 0.0  # the first warms up
    return {
        "records": records,
        "pass_tokens": passes.tokens,
        **{f"{name}_s": total / steps for name, total in seconds.items()},
        "ratio": seconds["fixed"] / seconds["made_to_measure"],
    }


def table(report: dict[str, Any]) -> Table:
    """A row for each number of records."""
    shown = Table("records a step", "tokens a pass", "fixed, s", "made to measure, s", "ratio")
    for row in report["steps"]:
        times = (f"{row['fixed_s']:.2f}", f"{row['made_to_measure_s']:.2f}", f"{row['ratio']:.2f}")
        shown.add_row(str(row["records"]), str(row["pass_tokens"]), *times)
    return shown


app = application("Compare passes of fixed shapes with passes made to measure.")


@app.command()
@spelled_out()
def main(
    model: Annotated[str | None, typer.Option(help="Real model: directory or hub name.")] = None,
    config: Annotated[str | None, typer.Option(help=f"Random model instead: {', '.join(CONFIGS)}.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the cut that is tuned.")] = 3,
    task: Annotated[Path, typer.Option(help="Task file.")] = TASK,
    texts: Annotated[Path | None, typer.Option(help="Records, .jsonl or .txt; made up if not given.")] = None,
    records: Annotated[str, typer.Option(help="Records of a step, comma-separated.")] = "20,94,250,625",
    budget: Annotated[int, typer.Option(min=1, help="Records of all steps of one number, about.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Also write the result here, as JSON.")] = None,
    form: FormatOption = Format.TEXT,
    *,
    placed: Placed,
) -> None:
    """Measure every number of records and print one table."""
    torch.set_num_threads(1)
    asked = Task.from_toml(task)
    target = target_of(model, config, asked, placed.over())
    given = read_texts(texts)[:POOL] if texts else made_up_texts(POOL)
    rows = []
    for count in map(int, records.split(",")):
        typer.echo(f"measuring steps of {count} records", err=True)
        rows.append(compare(proxy_of(target, layers), asked, given, count, max(2, budget // count)))
    setting = {
        "model": target.ref.name, "layers": layers, "width": target.width, "texts": texts and texts.parent.name,
        "prompt_tokens": PROMPT, "clock": "cpu", "threads": 1, "torch": torch.__version__,
    }  # fmt: skip
    report = {"setting": setting, "steps": rows}
    if out:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    emit(report, form, table)


if __name__ == "__main__":
    run(app)
