"""What `promptferry-client data check` finds: every fault of the private file, and what a task would make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from client.home.settings import DataSettings
from client.private import records as private_data
from client.private.lengths import Lengths
from transfer.models import language_model as models
from transfer.models.self_check import require_tunable
from transfer.tasks import Task
from transfer.tokens.encoder import Encoder

USUAL_PROMPT = 10
"""Prompt tokens that a plan asks for unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of a private file, for its owner's eyes only.

    Attributes:
        records: how many can be read.
        labels: how many of them are of each class; empty if answers are free text.
        users: how many users they are of, and `most_records_of_a_user`; 0 where records are the unit.
        faults: what is wrong with the others, the first of it; `more_faults` are not told.
        lengths: what the task cuts of the records; None without a proxy to count tokens with.
    """

    records: int
    labels: dict[str, int]
    users: int
    most_records_of_a_user: int
    faults: tuple[str, ...]
    more_faults: int
    lengths: Lengths | None


def check(data: DataSettings, labels: Sequence[str], task: Task | None, proxy: Path | None) -> Report:
    """Read all of the file.

    Args:
        data: which file it is, and the unit of privacy.
        labels: names of the classes; none for answers in free text.
        task: what is asked of the records.
        proxy: directory of a model to ask it of.

    Raises:
        DataError: the file as a whole cannot be read.
        ModelError: the proxy is no model, or fails its self-check.
        TaskError: the task cannot be asked of it.
    """
    encoder = _encoder(proxy, task) if proxy is not None and task is not None else None
    found = private_data.examine(data.path, labels, data.unit)
    records = found.records
    shares = [len(indices) for indices in records.by_user()] if records and records.users else []
    return Report(
        records=len(records.texts) if records else 0,
        labels={name: records.labels.count(i) if records else 0 for i, name in enumerate(labels)},
        users=len(shares),
        most_records_of_a_user=max(shares, default=0),
        faults=found.faults,
        more_faults=found.more_faults,
        lengths=Lengths.of(encoder, records.texts, records.answers) if encoder and records else None,
    )


def shown(report: Report, path: Path, task: Task | None) -> RenderableType:
    """The report as text, without its faults."""
    lines = [f"{path}: {report.records} records"]
    if report.users:
        lines[0] += f" of {report.users} users, at most {report.most_records_of_a_user} of one"
    if not report.labels:
        lines[0] += ", each with its answer in free text"
    if report.lengths:
        lines += _lengths(report.lengths, report.records)
    elif task is not None:
        lines += [
            f"what max_tokens = {task.max_tokens} cuts is counted with --proxy DIRECTORY: tokens are a model's"
        ]
    text = "\n".join(lines)
    if not report.labels:
        return text
    table = Table("label", "records")
    for name, count in report.labels.items():
        table.add_row(escape(name), str(count))
    return Group(escape(text), table)


def _encoder(proxy: Path, task: Task) -> Encoder:
    model = models.load(proxy)
    require_tunable(model, task, model.text_prompt(task.init_text, USUAL_PROMPT).longer(task.head_rows))
    return model.encoder(task)


def _lengths(found: Lengths, records: int) -> list[str]:
    told = [
        f"lines have up to {found.longest} tokens, {found.median:g} in the median; max_tokens is {found.max_tokens}"
    ]
    if found.cut_records:
        told.append(
            f"{found.cut_records} of {records} records lose the end of their text, {found.cut_tokens} tokens in all: "
            "shorten them, or ask for a task with more max_tokens"
        )
    if found.cut_answers:
        told.append(
            f"{found.cut_answers} of {records} answers are cut: ask for a task with more answer_tokens"
        )
    return told
