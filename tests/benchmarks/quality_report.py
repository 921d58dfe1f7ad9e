"""Finished cells as a table for each model and task: a row a condition, a column a method."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.quality_cells import METHODS

Record = Mapping[str, Any]

CONDITION = ("epsilon", "clients", "share", "partition")
COLUMNS = ("target", "task", *CONDITION)
TITLES = {
    "bare": "zero-shot",
    "text": "text prompt",
    "public-prior": "zero-shot, prior removed",
    "public-start": "prompt of public text",
    "proxy-bare": "proxy, zero-shot",
    "proxy": "proxy, prompted",
    "direct": "direct",
    "arithmetic": "logit arithmetic",
    "l1": "L1 only",
    "l2": "L2 only",
    "undistilled": "undistilled proxy",
    "post": "**POST**",
    "library": "POST + library",
    "shuffled": "POST + shuffled library",
    "paper": "PANDA as published",
    "same-model": "same model, DP",
    "ceiling": "same model, no privacy",
}
assert set(TITLES) == set(METHODS)
FREE = ("bare", "text", "public-prior", "public-start")
"""What costs no privacy; a prompt has to be worth more than the best of them."""
RECOVERY = "recovery"
NONE = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One condition of one task: what it is called by column, and each method's accuracies by seed."""

    names: Mapping[str, Any]
    reached: Mapping[str, Sequence[float]]

    def mean(self, method: str) -> float | None:
        """Mean over the seeds, None if nothing was measured."""
        return statistics.fmean(self.reached[method]) if self.reached.get(method) else None

    @property
    def free(self) -> float | None:
        """Mean of the best answer that costs no privacy, of those measured."""
        return max((mean for method in FREE if (mean := self.mean(method)) is not None), default=None)

    @property
    def recovery(self) -> float | None:
        """(transferred − best free answer)/(same-model tuning without privacy − best free answer), of the means."""
        return recovery(self.mean("post"), self.free, self.mean("ceiling"))

    @property
    def seeds(self) -> int:
        """Seeds of the method that has most."""
        return max(map(len, self.reached.values()))


def recovery(transferred: float | None, free: float | None, ceiling: float | None) -> float | None:
    """Part of what tuning the target itself gains that transfer keeps; None where nothing is gained."""
    if transferred is None or free is None or ceiling is None or ceiling <= free:
        return None
    return (transferred - free) / (ceiling - free)


def rows(records: Iterable[Record], metric: str = "micro") -> list[Row]:
    """The rows. A setting that takes several values within a model and task becomes a column of its own.

    A cell stands in every row whose columns it does not contradict: zero-shot in those of all ε, for example.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["settings"]["target"], record["settings"]["task"]), []).append(record)
    columns = (*COLUMNS, *sorted(set().union(*map(_varying, groups.values()))))
    return [row for _, group in sorted(groups.items()) for row in _rows_of(group, columns, metric)]


def _rows_of(group: Sequence[Record], columns: Sequence[str], metric: str) -> list[Row]:
    named = {tuple(record["settings"].get(column) for column in columns) for record in group}
    richest = [names for names in named if not any(_within(names, other) for other in named - {names})]
    found = []
    for names in sorted(richest, key=_order):
        reached: dict[str, list[float]] = {}
        for record in sorted(group, key=lambda record: record["settings"].get("seed", 0)):
            if _within(tuple(record["settings"].get(column) for column in columns), names):
                reached.setdefault(record["method"], []).append(record[metric])
        found.append(Row(dict(zip(columns, names, strict=True)), reached))
    return found


def _varying(group: Sequence[Record]) -> set[str]:
    """Settings other than the usual columns and the seed of which the cells have several values."""
    values: dict[str, set[str]] = {}
    for record in group:
        for name, value in record["settings"].items():
            values.setdefault(name, set()).add(repr(value))
    return {name for name, seen in values.items() if len(seen) > 1} - {*COLUMNS, "seed"}


def _within(names: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether whatever `names` says `other` says too."""
    return all(name in (None, same) for name, same in zip(names, other, strict=True))


def _order(names: Sequence[Any]) -> list[tuple[bool, float, str]]:
    return [_place(name) for name in names]


def _place(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, "inf" last among them, then text."""
    try:
        return (False, float(value), "")
    except (TypeError, ValueError):
        return (True, 0.0, str(value))


def means_over_tasks(found: Sequence[Row]) -> list[tuple[Row, int, float | None]]:
    """For each model and condition the tasks' means as a row, their number, and their mean recovery."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(value for name, value in row.names.items() if name != "task"), []).append(row)
    means = []
    for _, group in sorted(groups.items(), key=lambda item: _order(item[0])):
        methods = [method for method in TITLES if all(row.mean(method) is not None for row in group)]
        reached = {method: [row.mean(method) or 0.0 for row in group] for method in methods}
        recoveries = [row.recovery for row in group if row.recovery is not None]
        mean = statistics.fmean(recoveries) if recoveries else None
        means.append((Row(group[0].names, reached), len(group), mean))
    return means


def markdown(records: Sequence[Record], metric: str = "micro") -> str:
    """A table for each model and task, and one of the means over tasks where there are several."""
    found = rows(records, metric)
    tables: dict[str, list[_Line]] = {}
    for row in found:
        title = f"{short(row.names['target'])}, {short(row.names['task'])}"
        told = {"seeds": str(row.seeds)}
        tables.setdefault(title, []).append(_line(row, told, _spread, row.recovery))
    if len({row.names["task"] for row in found}) > 1:
        for row, tasks, recovered in means_over_tasks(found):
            title, told = f"{short(row.names['target'])}, means over tasks", {"tasks": str(tasks)}
            tables.setdefault(title, []).append(_line(row, told, _mean, recovered))
    counts = {"F1" if "exact" in record else "Accuracy" for record in records} or {"Accuracy"}
    text = f"{' or '.join(sorted(counts))} ({metric}) in %, mean ± standard deviation over seeds.\n"
    return text + "".join(f"\n## {title}\n\n{_table(lines)}" for title, lines in tables.items())


_Line = tuple[dict[str, str], dict[str, str]]
"""What a row was measured with, and what was reached, by the columns' titles."""


def _line(
    row: Row, told: dict[str, str], shown: Callable[[Sequence[float]], str], recovered: float | None
) -> _Line:
    names = {name: short(value) for name, value in row.names.items() if name not in ("target", "task")}
    reached = {title: shown(row.reached.get(method, ())) for method, title in TITLES.items()}
    return names | told, reached | {RECOVERY: NONE if recovered is None else f"{recovered:.2f}"}


def _table(lines: Sequence[_Line]) -> str:
    """Settings that differ, then results; settings of one value throughout stand above the table."""
    values = {name: {told[name] for told, _ in lines} - {NONE} for name in lines[0][0]}
    same = ", ".join(
        f"{name} {value}" for name, found in values.items() if len(found) == 1 for value in found
    )
    cells = [
        {name: told[name] for name in values if len(values[name]) > 1} | reached for told, reached in lines
    ]
    columns = [title for title in cells[0] if title == RECOVERY or any(line[title] != NONE for line in cells)]
    table = [columns, ["---"] * len(columns), *([line[title] for title in columns] for line in cells)]
    return (f"{same}\n\n" if same else "") + "".join(f"| {' | '.join(line)} |\n" for line in table)


def short(value: Any) -> str:
    """A value without the digest behind it; ∞ for "inf"."""
    if value is None:
        return NONE
    return "∞" if value == "inf" else str(value).partition(" ")[0]


def _mean(reached: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(reached):.1f}" if reached else NONE


def _spread(reached: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(reached):.1f}" if len(reached) > 1 else ""
    return _mean(reached) + spread
