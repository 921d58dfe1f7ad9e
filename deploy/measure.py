"""Measurements of a demo run: accuracies, the delivered prompt in stock PEFT, and a table of both.

Only the demo can do this. It has every client's text and the labelled test set, which nobody has in a real
federation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Group
from rich.table import Table

from client.private.records import PrivateRecords
from client.prompts import trial
from deploy.ceiling import ceiling
from deploy.stages import place_of
from transfer.files import atomic
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.peft_directory import HEAD_FILE, HEAD_KEY, WEIGHTS_FILE
from transfer.post.baselines import direct, logit_arithmetic, text_prompt, without_prior
from transfer.post.evaluation import Accuracy, LabelSets, accuracy, exact_match, matched, scored
from transfer.post.settings import TransferSettings
from transfer.post.starts import public_answers, public_start
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

CEILING = TransferSettings(batch_size=32, learning_rate=0.01, restarts=3, held_out=0.1)
"""Settings of tuning on the target itself, without privacy, on all private text: an upper bound."""

PUBLIC = 300
"""Most public texts that the target's prior is measured on."""

SOME = 50
"""Number of free-text answers whose logits over the whole vocabulary are compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A run with everything that its measurement needs.

    Without `ceiling_steps` the ceiling is left out. The prompt of public text has `public_steps`; `cache` keeps it
    for runs at another ε.
    """

    task: Task
    target: LanguageModel
    proxy: LanguageModel
    proxy_prompt: SoftPrompt
    delivered: Path
    test: PrivateRecords
    public: Sequence[str]
    ceiling_steps: int
    public_steps: int
    cache: Path


Score = Accuracy | LabelSets


def figures(task: Task, scores: Mapping[str, Score | None]) -> dict[str, Any]:
    """Return the part of `report.json` about what was reached, by name, None where there is no figure.

    A figure is the micro accuracy for one label a text, micro F1 for several, and the share of exact matches for free
    text. For several labels, macro F1 and the share of exact sets stand beside it.
    """
    metric = "exact match" if task.kind == "text" else "micro F1" if task.many else "accuracy"

    def each(name: str) -> dict[str, float | None]:
        return {key: None if own is None else round(getattr(own, name), 4) for key, own in scores.items()}

    more = {"macro_f1": each("macro"), "exact_sets": each("exact")} if task.many else {}
    return {"metric": metric, "accuracy": each("micro"), **more}


def scores(run: Measured, private: PrivateRecords, on_step: OnStep) -> dict[str, Score | None]:
    """Return the score of every row of `NAMES`, None where there is none; for free text both are exact match."""
    task, target, proxy, prompt, test = run.task, run.target, run.proxy, run.proxy_prompt, run.test

    def of(model: LanguageModel, prompt: SoftPrompt | None) -> Score:
        if task.kind == "text":
            share = exact_match(model, task, test.texts, test.answers, prompt)
            return Accuracy(share, share)
        return accuracy(model, task, test.texts, test.labels, prompt)

    def classes(logits: torch.Tensor) -> Score:
        return scored(task, logits, test.labels)

    labelled, same_width = task.kind != "text", prompt.width == target.width
    prior = labelled and not task.head_rows  # a head of zeros has no opinion
    return {
        "zero_shot": of(target, None),
        "without_prior": classes(without_prior(target, task, test.texts, run.public)) if prior else None,
        "text_prompt": of(target, start(run)),
        "public_start": of(target, taught(run, on_step)) if prior else None,
        "proxy_prompted": of(proxy, prompt),
        "direct": of(target, direct(prompt, target)) if same_width else None,
        "arithmetic": classes(logit_arithmetic(prompt, proxy, target, task, test.texts))
        if labelled
        else None,
        "transferred": of(target, delivered_prompt(run)),
        "ceiling": of(target, highest(run, private, on_step)) if run.ceiling_steps else None,
    }


def start(run: Measured) -> SoftPrompt:
    """Return the prompt that tuning on the target would start from."""
    return text_prompt(run.target, run.task, run.proxy_prompt.length - run.task.head_rows)


def taught(run: Measured, on_step: OnStep) -> SoftPrompt:
    """Return a prompt that teaches the target its own answers to public text, its prior removed.

    It takes longer than all else that a run measures, and does not depend on private text: a cached one serves.
    """
    target, task, length = run.target, run.task, run.proxy_prompt.length
    recipe = repr((target.ref.digest, task, tuple(run.public), length, run.public_steps))
    cached = place_of(run.cache / "public-starts", recipe).with_suffix(".safetensors")
    if cached.exists():
        return SoftPrompt.from_bytes(cached.read_bytes(), target.ref)
    answers = public_answers(target, task, run.public)
    prompt = public_start(
        answers, target, task, run.public, length, seed=0, on_step=on_step, steps=run.public_steps
    )
    cached.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(cached, prompt.to_bytes())
    return prompt


def delivered_prompt(run: Measured) -> SoftPrompt:
    """Return the prompt [P, H] in the fetched directory, followed by the rows of its head if the task has one."""
    data = (run.delivered / WEIGHTS_FILE).read_bytes()
    prompt, head = SoftPrompt.from_bytes(data, run.target.ref), delivered_head(run)
    return prompt if head is None else SoftPrompt(torch.cat([prompt.vectors, head]), run.target.ref)


def delivered_head(run: Measured) -> torch.Tensor | None:
    """Return the head [C, H] in the fetched directory, or None if the task has none."""
    if not run.task.head_rows:
        return None
    return SoftPrompt.from_bytes((run.delivered / HEAD_FILE).read_bytes(), run.target.ref, HEAD_KEY).vectors


def highest(run: Measured, private: PrivateRecords, on_step: OnStep) -> SoftPrompt:
    """Tune on the target itself with all private text and no privacy, to its end."""
    settings = replace(CEILING, steps=run.ceiling_steps)
    return ceiling(run.target, run.task, private, start(run), settings, on_step)


def in_stock_peft(run: Measured, target: Path | str) -> tuple[float, float] | tuple[None, None]:
    """Load the delivered directory with PEFT alone; return its accuracy and the largest |logit difference| to ours.

    Each text goes through PEFT's own forward pass, unbatched, without our code. Free-text answers are compared by
    exact match, and by the logits at the tokens of some true answers. PEFT cannot put a prompt into a user's turn:
    the result is then None twice.
    """
    if run.task.prompt_at == "user":
        return None, None
    fresh = load(target, lm_head=run.target.lm_head)
    stock = PeftModel.from_pretrained(fresh.model, run.delivered).eval()
    encoder, head, test = fresh.encoder(run.task), delivered_head(run), run.test
    free = run.task.kind == "text"
    lines = encoder.encode(test.texts, test.answers)[: SOME if free else None]
    ours = run.target.answer_logits(lines, delivered_prompt(run), encoder.words)
    logits = torch.cat([trial.class_logits(stock, fresh, line, encoder.words, head) for line in lines])
    difference = float((logits - ours).abs().max())
    if free:
        return matched(trial.written(stock, fresh, run.task, test.texts), test.answers), difference
    return scored(run.task, logits, test.labels).micro, difference


NAMES = {
    "zero_shot": "target, zero-shot",
    "without_prior": "target, zero-shot, its prior on public text removed",
    "text_prompt": "target, behind the task's own words",
    "public_start": "target, behind a prompt of public text alone",
    "proxy_prompted": "proxy, prompted",
    "direct": "target, direct transfer",
    "arithmetic": "target, logits of both models added",
    "transferred": "target, transferred prompt",
    "ceiling": "target, tuned without privacy",
}
"""What each figure is of. Direct transfer needs equal widths; arithmetic labels; a prior label words."""


def table(report: Mapping[str, Any], spent: Sequence[Mapping[str, Any]]) -> Group:
    """Return the final tables: accuracies, privacy of each client, seconds and memory of each stage."""
    accuracy_table = Table(title=f"{report['metric']} on held-out text", title_justify="left")
    accuracy_table.add_column("model and prompt")
    accuracy_table.add_column(report["metric"], justify="right")
    columns = [report["accuracy"]]
    for column, title in (("macro_f1", "macro F1"), ("exact_sets", "exact sets")):
        if column in report:  # of several labels a text
            accuracy_table.add_column(title, justify="right")
            columns.append(report[column])
    for key, name in NAMES.items():
        values = (column[key] for column in columns)
        accuracy_table.add_row(name, *("–" if value is None else f"{value:.1%}" for value in values))
    privacy_table = Table(title="privacy spent", title_justify="left")
    for column in ("client", "ε", "δ"):
        privacy_table.add_column(column, justify="left" if column == "client" else "right")
    for entry in spent:
        privacy_table.add_row(
            entry["client"], f"{float(entry['epsilon']):.3f}", f"{float(entry['delta']):.0e}"
        )
    cost_table = Table(title="seconds, and memory of all processes", title_justify="left")
    cost_table.add_column("stage")
    for column in ("s", "MiB"):
        cost_table.add_column(column, justify="right")
    for stage, seconds in report["seconds"].items():
        cost_table.add_row(stage, f"{seconds:.1f}", str(report["peak_mib"][stage]))
    return Group(accuracy_table, privacy_table, cost_table)
