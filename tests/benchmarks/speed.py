"""Records a second of tuning, transfer and distillation: ours, the published recipe's, and what is possible.

    python -m tests.benchmarks.speed --config gpt2-small
    python -m tests.benchmarks.speed --model DIR --layers 2 --texts FILE.jsonl --task TASK.toml

Our stages run as users run them. Between two steps of ours the others take their turn, on the same models and
records: one step of the published recipe (see `reference`) on a batch of the records, each of which costs it the
same, and the bound. The bound is a bare forward and input-gradient backward pass of the frozen backbone, without
head or mask, over our step's own physical batches less their padding. Distillation, where weights learn, is held
to the target's forward and the proxy's forward and backward pass. The best of all repetitions counts.
A step that leaves out work which nobody reads may beat the bound.

Transfer compares the whole vocabulary, as the published recipe does. Its constants, computed once for all steps,
and held-out measurements are outside the steps that are timed.
"""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from client.private.dpsgd import NoisyOptimizer, Tuned, noisy_step, tune
from client.private.noise import NoiseSource
from client.private.records import PrivateRecords
from tests.benchmarks import reference
from tests.benchmarks.timing import CLOCKS, Stage, input_gradient, measure, weight_gradients
from tests.benchmarks.workload import CONFIGS, TASK, Workload, made_up_texts, proxy_of, target_of
from transfer.distillation.distil import DistilSettings, distil
from transfer.distillation.exercises import exercises
from transfer.distillation.layers import spread
from transfer.distillation.proxy import cut
from transfer.distillation.settings import LEAST_TOKENS
from transfer.errors import UsageError
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.privacy import Spend
from transfer.progress import OnStep
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task
from transfer.terminal.console import Format, FormatOption, application, emit, run
from transfer.terminal.placement_options import Placed, spelled_out
from transfer.tokens.corpus import sequences_of

NOISE = 1.0
"""σ of private tuning; any other costs the same."""
SEQUENCE = 64
"""Longest sequence of distillation, in tokens."""


def tuning(work: Workload, batch: int, *, private: bool) -> Stage:
    """Tuning of the target itself, all records a step."""
    model, task, records = work.target, work.task, len(work.texts)
    start = model.text_prompt(task.init_text, work.prompt_tokens)
    data, few = work.data(records), work.data(batch)

    def asked(noise: float, steps: int = 1) -> Tuning:
        return Tuning(Spend(noise, 1.0, steps), reference.CLIP_NORM, reference.LEARNING_RATE)

    def ours(steps: int, on_step: OnStep) -> None:
        tune(
            model, PrivateRecords(tuple(work.texts), work.labels), task, start,
            asked(NOISE if private else 0.0, steps),
            declared_units=records, randomness=NoiseSource(), on_step=on_step,
        )  # fmt: skip

    tuned = Tuned(start.vectors)
    optimizer = NoisyOptimizer(tuned.parameter, asked(0.0), records, NoiseSource())
    return Stage(
        name="tune, DP" if private else "tune, no DP",
        ours=ours,
        watched=model,
        reference=(
            reference.private_tuning(model, few, start, NOISE)
            if private
            else reference.tuning(model, few, start)
        ),
        reference_records=len(few.lines),
        bound=input_gradient(model),
        plain=(lambda: noisy_step(model, data, range(records), tuned, optimizer)) if private else None,
        records=records,
    )


def transferring(work: Workload, batch: int) -> Stage:
    """Transfer from the proxy to the target, all records but the two held out a step."""
    proxy, target, task = work.proxy, work.target, work.task
    prompt = proxy.text_prompt(task.init_text, work.prompt_tokens)
    few = work.texts[:batch]
    lines = proxy.encoder(task).encode(few), target.encoder(task).encode(few)
    usual = TransferSettings()

    def ours(steps: int, on_step: OnStep) -> None:
        settings = TransferSettings(
            space="vocabulary", steps=steps, check_every=steps, batch_size=len(work.texts), held_out=1e-9
        )
        transfer(prompt, proxy, target, task, work.texts, settings, on_step)

    return Stage(
        name="transfer",
        ours=ours,
        watched=target,
        reference=reference.transfer(
            prompt, proxy, target, lines, alpha=usual.alpha, temperature=usual.temperature
        ),
        reference_records=len(few),
        bound=input_gradient(target),
    )


def distilling(work: Workload, batch: int) -> Stage:
    """Distillation of as many of the target's layers as the proxy has, all sequences a step."""
    target = work.target
    layers = spread(work.proxy.layers, target.layers)
    sequences = sequences_of(target.tokenizer, work.texts, LEAST_TOKENS, SEQUENCE)
    usual = DistilSettings()

    def ours(steps: int, on_step: OnStep) -> None:
        settings = DistilSettings(
            steps=steps, check_every=steps, sequence_tokens=SEQUENCE, batch_tokens=SEQUENCE * len(sequences)
        )
        distil(target, layers, work.texts, settings, lambda step, _kl: on_step(step, steps))

    few = sequences[:batch]
    whole = replace(usual, batch_tokens=SEQUENCE * len(few))
    (exercise,) = exercises(target, few, whole, torch.Generator().manual_seed(0))
    return Stage(
        name="distil",
        ours=ours,
        watched=target,
        reference=reference.distillation(target, cut(target, layers), exercise, usual.temperature),
        reference_records=len(few),
        bound=weight_gradients(target, cut(target, layers)),
    )


STAGES = {
    "tune": partial(tuning, private=False),
    "dp": partial(tuning, private=True),
    "transfer": transferring,
    "distil": distilling,
}


def table(report: dict[str, Any]) -> Table:
    """One row a stage: tokens of a step of ours, records a second of both, what DP multiplies our step by."""
    setting = report["setting"]
    shown = Table(
        title=f"{setting['model']}: {setting['records']} records, {setting['prompt_tokens']} prompt tokens, "
        f"{setting['threads']} threads, {setting['clock']} time, best of {setting['repeats']}",
        title_justify="left",
    )
    shown.add_column("stage")
    for name in ("tokens", "padding", "recipe/s", "ours/s", "ratio", "of bound", "DP cost"):
        shown.add_column(name, justify="right")
    for row in report["stages"]:
        private = row["private_over_plain"]
        shown.add_row(
            row["stage"], str(row["tokens"]), f"{row['padding']:.1%}",
            f"{row['reference_records_per_s']:.2f}", f"{row['our_records_per_s']:.2f}", f"{row['ratio']:.1f}×",
            f"{row['fraction_of_bound']:.2f}", "" if private is None else f"{private:.2f}",
        )  # fmt: skip
    return shown


app = application("Compare the speed of our tuning, transfer and distillation with the published recipe's.")


@app.command()
@spelled_out()
def main(
    model: Annotated[str | None, typer.Option(help="Real model: directory or hub name.")] = None,
    config: Annotated[str | None, typer.Option(help=f"Random model instead: {', '.join(CONFIGS)}.")] = None,
    proxy: Annotated[str | None, typer.Option(help="Proxy; by default a cut of the model.")] = None,
    layers: Annotated[int, typer.Option(min=1, help="Layers of that cut.")] = 2,
    task: Annotated[Path, typer.Option(help="Task file.")] = TASK,
    texts: Annotated[Path | None, typer.Option(help="Records, .jsonl or .txt; made up if not given.")] = None,
    records: Annotated[int, typer.Option(min=20, help="Records of a step of ours.")] = 20,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="P.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Records of a step of the published recipe.")] = 8,
    stages: Annotated[str, typer.Option(help="Which, comma-separated.")] = ",".join(STAGES),
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps of each; the best counts.")] = 3,
    clock: Annotated[str, typer.Option(help="wall, or cpu on a machine that is shared.")] = "wall",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Also write the result here, as JSON.")] = None,
    form: FormatOption = Format.TEXT,
    *,
    placed: Placed,
) -> None:
    """Measure each stage and print one table."""
    wanted = stages.split(",")
    for option, values, known in (("stages", wanted, STAGES), ("clock", [clock], CLOCKS)):
        if unknown := sorted(set(values) - set(known)):
            raise UsageError(f"--{option} {unknown[0]!r} is none of {', '.join(known)}")
    torch.set_num_threads(threads)
    asked = Task.from_toml(task)
    target = target_of(model, config, asked, placed.over())
    given = read_texts(texts)[:records] if texts else made_up_texts(records)
    work = Workload(
        target,
        load(proxy, placement=placed.over().beside) if proxy else proxy_of(target, layers),
        asked,
        given,
        prompt_tokens,
    )
    rows = []
    for name in wanted:
        typer.echo(f"measuring {name}", err=True)
        result = measure(STAGES[name](work, batch), repeats, clock)
        rows.append(asdict(result) | result.figures())
    setting = {
        "model": target.ref.name, "layers": target.layers, "width": target.width,
        "vocabulary": len(target.embedding), "proxy_layers": work.proxy.layers,
        "records": len(given), "prompt_tokens": prompt_tokens, "repeats": repeats, "clock": clock, "threads": threads,
        "torch": torch.__version__,
    }  # fmt: skip
    report = {"setting": setting, "stages": rows}
    if out:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    emit(report, form, table)


if __name__ == "__main__":
    run(app)
