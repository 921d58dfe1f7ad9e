"""What quantised weights cost a prompt: its gradient, and its accuracy on every twin of the target it was made for.

    python -m tests.benchmarks.quantised --model DIR --private train.jsonl --test test.jsonl --public public.jsonl \
        --layers 3 --out rows.jsonl

Twins are one checkpoint loaded four times: in float32, in bfloat16, and with int8 and nf4 weights between which is
bfloat16. For a few lines of the records, the gradient of a prompt (the task's text) is compared with that in
float32. Then a prompt is carried over to a twin from a cut of --layers undistilled layers, tuned without privacy,
the same for every twin; or with --layers 0 it is tuned on the twin itself. It is asked on all of them.

--made-on names the twins that prompts are made on, and "none" for no prompt. Each of them, and the gradients, are a
line of OUT, which later runs add to; the table is made of all its lines.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from client.private.records import PrivateRecords, read
from tests.benchmarks.panda_paper import paper_transfer
from tests.benchmarks.quality_federation import drawn, taken
from tests.benchmarks.workload import TASK, proxy_of
from transfer.files.public_text import read_texts
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.placement.settings import Placement
from transfer.post.baselines import text_prompt
from transfer.post.evaluation import accuracy
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.terminal.console import application, run
from transfer.terminal.placement_options import Placed, spelled_out

TWINS = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantise": "int8"},
    "nf4": {"quantise": "nf4"},
}
EXACT = "float32"
"""The twin that the others are compared with."""
BARE = "none"
"""In place of a twin that a prompt is made on: the bare model."""
MADE_ON = ",".join([BARE, *TWINS])
PROMPT = 10
"""Prompt tokens."""
Twins = Mapping[str, LanguageModel]


def twins_of(source: Path, placement: Placement) -> Twins:
    """The same checkpoint in all numbers."""
    return {name: load(source, placement=placement.model_copy(update=how)) for name, how in TWINS.items()}


def some(records: PrivateRecords, count: int) -> PrivateRecords:
    """Up to `count` of the records, always the same."""
    return taken(records, drawn(len(records.texts), count, 0))


def cosines(twins: Twins, task: Task, records: PrivateRecords) -> dict[str, torch.Tensor]:
    """Of each twin the cosine [N] of every record's own gradient with that in float32, at the task's text."""
    start = text_prompt(twins[EXACT], task, PROMPT).vectors
    gradients = {}
    for name, model in twins.items():
        encoder = model.encoder(task)
        lines = LabelledLines(encoder.encode(records.texts), torch.tensor(records.labels), encoder.words)
        gradients[name] = per_record_gradients(model, lines, range(len(records.texts)), start).flatten(1)
    return {name: torch.cosine_similarity(each, gradients[EXACT]) for name, each in gradients.items()}


def learnt(
    model: LanguageModel, task: Task, records: PrivateRecords, settings: TransferSettings
) -> SoftPrompt:
    """A prompt that learnt the records' labels without privacy, in the passes of a transfer."""
    start = text_prompt(model, task, PROMPT)
    labelled = list(zip(records.texts, records.labels, strict=True))
    return paper_transfer(start, start, 0.0, model, task, labelled, settings).prompt


def accuracies(twins: Twins, task: Task, prompt: SoftPrompt | None, test: PrivateRecords) -> dict[str, float]:
    """The share of right answers of every twin behind `prompt`, or of the bare twins."""
    return {
        name: accuracy(model, task, test.texts, test.labels, prompt).micro for name, model in twins.items()
    }


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return all lines of OUT as Markdown: cosines, then accuracy in % by where a prompt was made and is used."""
    head = f"| {' | '.join(TWINS)} |\n|{'---|' * (len(TWINS) + 1)}"
    lines = []
    for row in rows:
        cells = [
            f"{row['of'][name]:.4f}" if "cosine" in row["what"] else f"{row['of'][name]:.1%}"
            for name in TWINS
        ]
        lines.append(f"| {row['what']} | {' | '.join(cells)} |")
    return "\n".join([f"| {head}", *lines])


app = application("Measure what quantised weights cost a prompt.")


@app.command()
@spelled_out("device", "max_memory", "offload", "checkpointing")
def main(
    model: Annotated[Path, typer.Option(help="Directory of the target.")],
    private: Annotated[Path, typer.Option(help="Labelled records to tune on.")],
    test: Annotated[Path, typer.Option(help="Labelled records to measure on.")],
    public: Annotated[Path, typer.Option(help="Public text of the transfer.")],
    out: Annotated[Path, typer.Option(help="File that gets a line for each row.")],
    task: Annotated[Path, typer.Option(help="Task file.")] = TASK,
    layers: Annotated[int, typer.Option(min=0, help="Layers of the proxy; 0 tunes on the twin itself.")] = 3,
    made_on: Annotated[
        str, typer.Option(help="Twins to make prompts on, or none, comma-separated.")
    ] = MADE_ON,
    lines: Annotated[int, typer.Option(min=0, help="Records whose gradients are compared.")] = 32,
    rows: Annotated[int, typer.Option(min=1, help="Records to tune on.")] = 1000,
    texts: Annotated[int, typer.Option(min=10, help="Public texts.")] = 500,
    tests: Annotated[int, typer.Option(min=1, help="Records to measure on.")] = 500,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of tuning, and of the transfer, of 8 texts each.")
    ] = 300,
    *,
    placed: Placed,
) -> None:
    """Measure, add to OUT, and print the tables."""
    asked = Task.from_toml(task)
    records, exam = (read(path, asked.label_names) for path in (private, test))
    records, exam = some(records, rows), some(exam, tests)
    twins = twins_of(model, placed.over())

    def say(what: str, of: Mapping[str, float]) -> None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "of": of}) + "\n")

    if lines:
        found = cosines(twins, asked, some(records, lines))
        say(f"mean cosine, {lines} lines", {name: each.mean().item() for name, each in found.items()})
        say(f"least cosine, {lines} lines", {name: each.min().item() for name, each in found.items()})
    descent = TransferSettings(steps=steps, check_every=min(steps, TransferSettings().check_every))
    proxy = proxy_of(twins[EXACT], layers) if layers else None
    first = learnt(proxy, asked, records, descent) if proxy else None
    for name in made_on.split(","):
        typer.echo(f"making a prompt on {name}", err=True)
        if name == BARE:
            prompt = None
        elif proxy and first:
            prompt = transfer(first, proxy, twins[name], asked, read_texts(public)[:texts], descent).prompt
        else:
            prompt = learnt(twins[name], asked, records, descent)
        say(f"accuracy, made on {name}", accuracies(twins, asked, prompt, exam))
    typer.echo(tables([json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]))


if __name__ == "__main__":
    run(app)
