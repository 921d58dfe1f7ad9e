"""Finished cells as a table: a row for each model, task and condition, a column for each method."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.quality_cells import METHODS

Record = Mapping[str, Any]

CONDITION = ("epsilon", "clients", "share", "partition")
COLUMNS = ("target", "task", *CONDITION)
TITLES = {
    "bare": "zero-shot",
    "text": "text prompt",
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
    "same-model": "same model, DP",
    "ceiling": "same model, no privacy",
}
assert set(TITLES) == set(METHODS)


@dataclass(frozen=True, slots=True)
class Row:
    """One condition of one task: what it is called by column, and each method's accuracies by seed."""

    names: Mapping[str, Any]
    reached: Mapping[str, Sequence[float]]

    def mean(self, method: str) -> float | None:
        """Mean over the seeds, None if nothing was measured."""
        return statistics.fmean(self.reached[method]) if self.reached.get(method) else None

    @property
    def recovery(self) -> float | None:
        """(transferred − zero-shot)/(same-model tuning without privacy − zero-shot), of the means."""
        return recovery(self.mean("post"), self.mean("bare"), self.mean("ceiling"))

    @property
    def seeds(self) -> int:
        """Seeds of the method that has most."""
        return max(map(len, self.reached.values()))


def recovery(transferred: float | None, zero_shot: float | None, ceiling: float | None) -> float | None:
    """Part of what tuning the target itself gains that transfer keeps; None where nothing is gained."""
    if transferred is None or zero_shot is None or ceiling is None or ceiling <= zero_shot:
        return None
    return (transferred - zero_shot) / (ceiling - zero_shot)


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
    """The table, and below it means over the tasks where there are several."""
    found = rows(records, metric)
    methods = [method for method in TITLES if any(method in row.reached for row in found)]
    titles, columns = [TITLES[method] for method in methods], list(found[0].names) if found else []

    def line(row: Row, columns: Sequence[str], *cells: str) -> list[str]:
        return [*(short(row.names[column]) for column in columns), *cells]

    table = [
        line(
            row,
            columns,
            str(row.seeds),
            *(_spread(row.reached.get(method, ())) for method in methods),
            _ratio(row.recovery),
        )
        for row in found
    ]
    text = f"Accuracy ({metric}) in %, mean ± standard deviation over seeds.\n\n"
    text += _table([*columns, "seeds", *titles, "recovery"], table)
    if len({row.names["task"] for row in found}) < 2:
        return text
    columns.remove("task")
    table = [
        line(row, columns, str(tasks), *(_percent(row.mean(method)) for method in methods), _ratio(recovered))
        for row, tasks, recovered in means_over_tasks(found)
    ]
    return f"{text}\nMeans over tasks.\n\n{_table([*columns, 'tasks', *titles, 'recovery'], table)}"


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(titles)
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *lines))


def short(value: Any) -> str:
    """A value without the digest behind it; ∞ for "inf"."""
    if value is None:
        return "–"
    return "∞" if value == "inf" else str(value).partition(" ")[0]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _spread(reached: Sequence[float]) -> str:
    if not reached:
        return "–"
    spread = f" ± {100 * statistics.stdev(reached):.1f}" if len(reached) > 1 else ""
    return _percent(statistics.fmean(reached)) + spread


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
