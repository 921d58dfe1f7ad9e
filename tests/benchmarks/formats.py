"""How far accuracy depends on the format of the question: for the bare target, the text prompt and tuned prompts.

    python -m tests.benchmarks.formats --target DIR --task TASK.toml --test test.jsonl \
        --prompt one=published/sst2 --prompt four=cache/prompt-0123456789abcdef.json

A prompt is a published directory, its `adapter_model.safetensors`, or a JSON file with `vectors` or `prompt`, as
`quality` keeps tuned prompts in its cache and transferred ones in its library; it must be one of the target.

A line of JSON is printed for each: accuracy in the task's own format, in the worst format and in the mean of all, the
spread (best minus worst) with its binomial error. Without labels: agreement with the task's own format (mean and
least) and POSIX in nats. --per-format adds the accuracy of each template.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from client.private.records import read
from tests.benchmarks.quality_federation import drawn, taken
from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.peft_directory import WEIGHTS_FILE
from transfer.post.baselines import text_prompt
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.terminal.console import application, run
from transfer.terminal.placement_options import Placed, spelled_out
from transfer.wording.formats import formats
from transfer.wording.sensitivity import Sensitivity, Spread, log_chances


def prompt_of(path: Path, model: LanguageModel) -> SoftPrompt:
    """The prompt in a published directory, a safetensors file, or a cache or library file of `quality`.

    Raises:
        UsageError: there is no prompt of such a width in it.
    """
    path = path / WEIGHTS_FILE if path.is_dir() else path
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        vectors = content.get("vectors", content.get("prompt"))
        prompt = SoftPrompt(torch.tensor(vectors if vectors else []), model.ref)
    else:
        prompt = SoftPrompt.from_bytes(path.read_bytes(), model.ref)
    if prompt.width != model.width:
        raise UsageError(
            f"{path}: a prompt of width {prompt.width}, and {model.ref.name!r} has {model.width}"
        )
    return prompt


def prompts(
    given: list[str], model: LanguageModel, task: Task, length: int
) -> Iterator[tuple[str, SoftPrompt | None]]:
    """What is asked behind, by name: nothing, the task's text, and the prompts given as NAME=PATH.

    Raises:
        UsageError: a prompt has no name or does not fit.
    """
    yield "bare", None
    yield "text", text_prompt(model, task, length)
    for each in given:
        name, found, path = each.partition("=")
        if not found:
            raise UsageError(f"--prompt {each!r} must be NAME=PATH")
        yield name, prompt_of(Path(path), model)


app = application("Measure how far accuracy depends on the format of the question.")


@app.command()
@spelled_out()
def main(
    target: Annotated[str, typer.Option(help="Directory or hub name.")],
    task: Annotated[Path, typer.Option(help="Task file, with label words.")],
    test: Annotated[Path, typer.Option(help="Labelled records to measure on.")],
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A prompt; repeatable.")
    ] = None,
    prompt_length: Annotated[int, typer.Option(min=1, help="Tokens of the text prompt.")] = 10,
    count: Annotated[int, typer.Option("--formats", min=2, help="Most formats.")] = 12,
    rows: Annotated[int, typer.Option(min=1, help="Records to measure on.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the formats.")] = 0,
    per_format: Annotated[bool, typer.Option("--per-format", help="Add each format's accuracy.")] = False,
    *,
    placed: Placed,
) -> None:
    """Print a line of JSON for each prompt."""
    asked = Task.from_toml(task)
    if not asked.has_words:
        raise UsageError(
            f"task {asked.name!r} has no label words: accuracy by format is theirs; take another"
        )
    model, records = load(target, placement=placed.over()), read(test, asked.label_names)
    exam = taken(records, drawn(len(records.texts), rows, 0))
    encoders = formats(model.encoder(asked), count, seed)
    if len(encoders) < 2:
        raise UsageError(f"task {asked.name!r}: {model.ref.name!r} tells one format only; nothing to compare")
    sizes = {"task": asked.name, "target": model.ref.name, "formats": len(encoders), "rows": len(exam.texts)}
    for name, each in prompts(prompt or [], model, asked, prompt_length):
        chances = log_chances(model, encoders, exam.texts, each)  # [F, N, C]
        found: dict[str, Any] = {"prompt": name, **sizes}
        found |= asdict(Spread.of(chances, exam.labels)) | asdict(Sensitivity.of(chances))
        if per_format:
            right = (chances.argmax(dim=2) == torch.tensor(exam.labels)).double().mean(dim=1).tolist()
            templates = [encoder.task.template for encoder in encoders]
            found["accuracies"] = dict(zip(templates, right, strict=True))
        typer.echo(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    run(app)
