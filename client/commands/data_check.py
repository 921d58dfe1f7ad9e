"""The report of `promptferry-client data check`: every fault of the private file, and what a task would cut."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from client.home.settings import DataSettings
from client.private import records as private_data
from client.private.lengths import Lengths
from transfer.models import loading as models
from transfer.models.self_check import require_tunable
from transfer.tasks import Task, Truth
from transfer.tokens.encoder import Encoder

USUAL_PROMPT = 10
"""Prompt tokens of a plan that does not set them."""


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of a private file, for its owner alone.

    Attributes:
        records: number of records that can be read.
        labels: number of these records with each label; empty if answers are free text.
        users: number of their users, and `most_records_of_a_user`; 0 if the record is the unit.
        faults: the first faults of the other records; `more_faults` counts the rest.
        lengths: what the task cuts of the records; None without a proxy, which counts tokens.
    """

    records: int
    labels: dict[str, int]
    users: int
    most_records_of_a_user: int
    faults: tuple[str, ...]
    more_faults: int
    lengths: Lengths | None


def check(data: DataSettings, labels: Sequence[str], task: Task | None, proxy: Path | None) -> Report:
    """Read the whole file.

    Args:
        data: the file and the unit of privacy.
        labels: names of the classes; none for free-text answers.
        task: the task the records are for.
        proxy: directory of a model to check the task on.

    Raises:
        DataError: the file as a whole cannot be read.
        ModelError: the proxy is no model, or fails its self-check.
        TaskError: the task does not fit the proxy.
    """
    encoder = _encoder(proxy, task) if proxy is not None and task is not None else None
    examined = private_data.examine(data.path, labels, data.unit, many=task is not None and task.many)
    records = examined.records
    counts = Counter(chain.from_iterable(map(_each, records.labels if records else ())))
    shares = [len(indices) for indices in records.by_user()] if records and records.users else []
    return Report(
        records=len(records.texts) if records else 0,
        labels={name: counts[index] for index, name in enumerate(labels)},
        users=len(shares),
        most_records_of_a_user=max(shares, default=0),
        faults=examined.faults,
        more_faults=examined.more_faults,
        lengths=Lengths.of(encoder, records.texts, records.answers) if encoder and records else None,
    )


def shown(report: Report, path: Path, task: Task | None) -> RenderableType:
    """Return the report as text, without its faults."""
    lines = [f"{path}: {report.records} records"]
    if report.users:
        lines[0] += f" of {report.users} users, at most {report.most_records_of_a_user} of one"
    if not report.labels:
        lines[0] += ", each with its answer in free text"
    if report.lengths:
        lines += _lengths(report.lengths, report.records)
    elif task is not None:
        lines += [
            f"to count what max_tokens = {task.max_tokens} cuts, give --proxy DIRECTORY: only a model has tokens"
        ]
    text = "\n".join(lines)
    if not report.labels:
        return text
    table = Table("label", "records")
    for name, count in report.labels.items():
        table.add_row(escape(name), str(count))
    return Group(escape(text), table)


def _each(labels: Truth) -> tuple[int, ...]:
    return labels if isinstance(labels, tuple) else (labels,)


def _encoder(proxy: Path, task: Task) -> Encoder:
    model = models.load(proxy)
    require_tunable(model, task, model.text_prompt(task.init_text, USUAL_PROMPT).longer(task.head_rows))
    return model.encoder(task)


def _lengths(lengths: Lengths, records: int) -> list[str]:
    most = f"max_tokens is {lengths.max_tokens}"
    lines = [f"lines have up to {lengths.longest} tokens, the median is {lengths.median:g}; {most}"]
    if lengths.cut_records:
        lines.append(
            f"{lengths.cut_records} of {records} records lose the end of their text, {lengths.cut_tokens} tokens "
            "in all: shorten them, or ask for a task with more max_tokens"
        )
    if lengths.cut_answers:
        lines.append(
            f"{lengths.cut_answers} of {records} answers are cut: ask for a task with more answer_tokens"
        )
    return lines
