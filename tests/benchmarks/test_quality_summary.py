"""The summary holds the table's figures, and their spread, without rounding."""

import json
import statistics

import pytest

from tests.benchmarks import quality
from tests.benchmarks.quality_summary import FIGURES, summary

WHERE = {"clients": 3, "share": 1.0, "partition": "iid"}


def cell(method, micro, macro, seconds=1.0, **settings):
    told = {"target": "model 1", "task": "task 1", **settings}
    return {
        "key": f"{method}{settings}", "method": method, "settings": told, "micro": micro, "macro": macro,
        "seconds": seconds, "tuning_seconds": 2 * seconds, "peak_mib": round(100 * seconds),
    }  # fmt: skip


CELLS = [
    cell("bare", 0.5, 0.4),
    cell("ceiling", 0.9, 0.8, seed=0),
    cell("post", 0.7, 0.6, 3.0, **WHERE, epsilon=8.0, seed=0),
    cell("post", 0.8, 0.8, 4.0, **WHERE, epsilon=8.0, seed=1),
    cell("post", 0.9, 0.9, 5.0, **WHERE, epsilon="inf", seed=0),
]


def test_each_row_has_mean_and_spread_of_every_figure():
    noisy, plain = summary(CELLS)
    assert [noisy["names"]["epsilon"], plain["names"]["epsilon"]] == [8.0, "inf"]
    assert [noisy["seeds"], plain["seeds"]] == [2, 1]
    for figure in FIGURES:
        values = [each[figure] for each in CELLS[2:4]]
        told = {"mean": statistics.fmean(values), "deviation": statistics.stdev(values)}
        assert noisy["methods"]["post"][figure] == told
    assert plain["methods"]["post"]["macro"] == {"mean": 0.9, "deviation": None}
    assert list(noisy["methods"]) == ["bare", "post", "ceiling"]


def test_recovery_is_told_of_both_accuracies_and_null_where_nothing_was_to_gain():
    (noisy, _) = summary(CELLS)
    assert noisy["recovery"] == pytest.approx({"micro": 0.25 / 0.4, "macro": 0.3 / 0.4})
    assert summary([cell("post", 0.7, 0.6, **WHERE, epsilon=8.0, seed=0)])[0]["recovery"] == {
        "micro": None,
        "macro": None,
    }


def test_a_report_writes_the_summary_beside_the_table(tmp_path):
    given = tmp_path / "cells.json"
    given.write_text("".join(json.dumps(each) + "\n" for each in CELLS))
    quality.main(["--report", str(given), "--out", str(tmp_path / "all.md")])
    written = (tmp_path / "all.summary.json").read_text()
    assert json.loads(written) == summary(CELLS)
    assert len(written.splitlines()) == 2 + 2, "a row a line"
