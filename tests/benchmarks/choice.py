"""Whether a recipient could choose among several prompts of one target by how sure they are of a text.

    python -m tests.benchmarks.choice --assets DIR --model lab-llama-7m --tasks sst2 --tasks airline

The prompts are tuned on the target itself, without privacy: better than any that is delivered. Texts of all tasks are
mixed. For each, the prompt is taken whose answer has the least entropy, its prior on public text removed or not
(IDP reads attention instead, which a server does not give). Worth shipping if ≥ 80 % of the picks are right, and
accuracy is within a point of that of who knows each text's task. A line of JSON is printed for each rule.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from client.private.records import PrivateRecords, read
from deploy.ceiling import ceiling
from tests.benchmarks.quality_federation import drawn, taken
from tests.benchmarks.quality_tables import PUBLIC, TASKS, public_text
from transfer.errors import UsageError
from transfer.files.public_text import read_texts
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.post.baselines import text_prompt
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.terminal.console import application, progress, run

TRAIN, TEXTS, LENGTH = 1500, 200, 10
"""Records that tune a prompt, public texts for its prior, and its tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A task with its prompt, the prior [C] of the target behind it, and records of the task."""

    task: Task
    prompt: SoftPrompt
    prior: torch.Tensor
    records: PrivateRecords


def picked(answers: Sequence[torch.Tensor], priors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The prompt [N] with the least entropy of its answers [N, C], as a share of the most there can be.

    Letters: N texts, C classes, which may be others for each prompt; `priors` [C] are taken off first.
    """
    shares = []
    for logits, prior in zip(answers, priors, strict=True):
        chances = (logits.log_softmax(dim=1) - prior).log_softmax(dim=1)
        shares.append(-(chances.exp() * chances).sum(dim=1) / math.log(logits.shape[1]))
    return torch.stack(shares).argmin(dim=0)


def prepared(model: LanguageModel, name: str, assets: Path, rows: int, steps: int, place: Path) -> Choice:
    """A task with a prompt tuned on the target itself."""
    task = Task.from_toml(TASKS / f"{name}.toml")
    train, test = (
        read(assets / "datasets" / name / f"{part}.jsonl", task.label_names) for part in ("train", "test")
    )
    private = taken(train, drawn(len(train.texts), TRAIN, 0))
    settings = TransferSettings(batch_size=16, learning_rate=0.01, steps=steps, held_out=0.1)
    with progress(f"tuning on {name}") as on_step:
        prompt = ceiling(model, task, private, text_prompt(model, task, LENGTH), settings, on_step)
    public = read_texts(public_text(PUBLIC[name], assets, place))
    texts = [public[row] for row in drawn(len(public), TEXTS, 0)]
    prior = class_logits(model, task, texts, prompt).log_softmax(dim=1).mean(dim=0)
    return Choice(task, prompt, prior, taken(test, drawn(len(test.texts), rows, 0)))


def measured(model: LanguageModel, choices: Sequence[Choice]) -> list[dict[str, float | str]]:
    """Shares of right picks and right answers, by rule, in the mean of the tasks."""
    rules = {"prior removed": [each.prior for each in choices]}
    rules["as answered"] = [torch.zeros_like(each.prior) for each in choices]
    sums = {rule: [0.0, 0.0, 0.0] for rule in rules}
    for own, choice in enumerate(choices):
        texts = choice.records.texts
        answers = [class_logits(model, each.task, texts, each.prompt) for each in choices]
        right = answers[own].argmax(dim=1) == torch.tensor(choice.records.labels)
        for rule, priors in rules.items():
            mine = picked(answers, priors) == own
            for at, hits in enumerate((mine, mine & right, right)):
                sums[rule][at] += hits.double().mean().item() / len(choices)
    return [
        {"rule": rule, "picks": picks, "accuracy": reached, "with the task known": known}
        for rule, (picks, reached, known) in sums.items()
    ]


app = application("Measure whether prompts can be chosen by how sure they are.")


@app.command()
def main(
    assets: Annotated[Path, typer.Option(help="Models and data sets.")],
    tasks: Annotated[list[str], typer.Option(help="A task to mix; repeat it.")],
    model: Annotated[str, typer.Option(help="Model among the assets.")] = "lab-llama-7m",
    rows: Annotated[int, typer.Option(min=1, help="Records of each task to choose for.")] = 300,
    steps: Annotated[int, typer.Option(min=1, help="Steps of tuning on each task.")] = 150,
) -> None:
    """Print a line of JSON for each rule."""
    if len(set(tasks)) < 2 or not set(tasks) <= set(PUBLIC):
        raise UsageError(f"--tasks must name two or more of {', '.join(PUBLIC)}")
    target = load(assets / "models" / model)
    choices = [prepared(target, name, assets, rows, steps, Path.cwd()) for name in tasks]
    for line in measured(target, choices):
        typer.echo(json.dumps({"model": model, "tasks": tasks, **line}))


if __name__ == "__main__":
    run(app)
