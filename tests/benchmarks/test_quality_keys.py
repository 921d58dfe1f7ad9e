"""What was measured once stays measured: committed cells keep their keys, and today's grid still asks for them."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.benchmarks.quality_cells import Axes, Condition, Grid, Inputs, described, digest_of
from tests.benchmarks.quality_recipe import Recipe
from transfer.post.settings import TransferSettings
from transfer.tasks import Label, Task

OTHERS = ("speed-", "passes-", "strangers.")
"""Results of other benchmarks, which have no cells."""
RESULTS = [
    path
    for path in sorted((Path(__file__).parent / "results").glob("*.json"))
    if not path.name.startswith(OTHERS) and not path.name.endswith(".summary.json")
]


def grid_of(settings):
    """The grid of a cell with these settings, all it does not name being at its default."""
    recipe = {item.name: settings[item.name] for item in fields(Recipe) if item.name in settings}
    recipe.setdefault("restarts", 0)  # a ceiling of before was tuned once
    inputs = {item.name: settings.get(item.name, "") for item in fields(Inputs)}
    transfer = {
        name.removeprefix("transfer_"): value
        for name, value in settings.items()
        if name.startswith("transfer_")
    }
    return Grid(Inputs(**inputs), Recipe(**recipe), TransferSettings(**transfer), Axes([], [], [], 0))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_committed_cells_keep_their_keys(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines
    for line in lines:
        told = line["settings"]
        assert line["key"] == digest_of({"method": line["method"], **told})
        condition = Condition(
            float(told.get("epsilon", "inf")),
            told.get("clients", 1),
            told.get("share", 1.0),
            told.get("seed", 0),
        )
        assert grid_of(told).cell(line["method"], condition).settings == told


def test_a_task_of_one_label_a_text_keeps_its_digest_and_one_of_several_has_its_own():
    labels = Label("a", ("x",)), Label("b", ("y",))
    task = Task("t", "{text} {answer}", labels, "Init.")
    told = described(task)
    assert list(told)[-3:] == ["chat", "system", "prompt_at"]
    assert told["labels"] == ({"name": "a", "words": ("x",)}, {"name": "b", "words": ("y",)})
    head = replace(task, template="{text}", labels=(Label("a", ()), Label("b", ())), label_reading="head")
    assert len({digest_of(described(each)) for each in (head, replace(head, many=True))}) == 2
