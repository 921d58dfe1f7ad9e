"""Finished cells as one JSON document: the rows of the table, with figures in place of text.

An array of objects, one a row:

    names     what the row was measured with, by setting: target, task, epsilon ("inf" without noise), clients, …
    seeds     of the method that has most
    recovery  {"micro", "macro"}: as in the table, null where nothing is to be gained
    methods   by method {"micro", "macro", "seconds", "tuning_seconds", "peak_mib"}, and of each over the seeds
              {"mean", "deviation"}; the standard deviation of one seed is null

Accuracies are shares in [0, 1].
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.quality_report import TITLES, Record, rows

ACCURACIES = ("micro", "macro")
FIGURES = (*ACCURACIES, "seconds", "tuning_seconds", "peak_mib")


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The array; which rows there are does not depend on the figure that is told of them."""
    found = []
    for same in zip(*(rows(records, figure) for figure in FIGURES), strict=True):
        by_figure = dict(zip(FIGURES, same, strict=True))
        first = same[0]
        methods = {
            method: {figure: _over_seeds(row.reached[method]) for figure, row in by_figure.items()}
            for method in TITLES
            if method in first.reached
        }
        recovery = {metric: by_figure[metric].recovery for metric in ACCURACIES}
        found.append(
            {"names": dict(first.names), "seeds": first.seeds, "recovery": recovery, "methods": methods}
        )
    return found


def document(found: Sequence[Mapping[str, Any]]) -> str:
    """The document as text, a row a line."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in found)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation}
