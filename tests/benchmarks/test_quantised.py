"""int8 weights leave a prompt's gradient as it is, and the benchmark tells accuracy on every twin."""

import json
import os
from pathlib import Path

import pytest
import torch

from client.private.records import read
from tests.benchmarks import quantised
from tests.benchmarks.quantised import TASK, app, cosines, some, twins_of
from transfer.placement.settings import Placement
from transfer.tasks import Task
from transfer.terminal import console

BAR = 0.99


def option(inputs: list[str], name: str) -> str:
    return inputs[inputs.index(f"--{name}") + 1]


def test_a_gradient_behind_int8_weights_is_that_of_float32(inputs: list[str]) -> None:
    task = Task.from_toml(Path(option(inputs, "task")))
    records = some(read(Path(option(inputs, "private")), task.label_names), 8)
    twins = twins_of(Path(option(inputs, "target")), Placement(device="cpu"))
    found = cosines(twins, task, records)
    assert torch.allclose(found["float32"], torch.ones(8))
    assert found["int8"].mean() > BAR, found
    assert found["int8"].mean() > found["nf4"].mean()


SHORT = pytest.mark.xfail(raises=AssertionError, strict=True, reason="0.95: see results/README.md")


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("name", ["lab-llama-7m", pytest.param("smollm2", marks=SHORT)])
def test_a_real_models_gradient_behind_int8_weights_is_that_of_float32(assets: Path, name: str) -> None:
    source = assets / "models" / name
    if name == "smollm2":
        if "PROMPTFERRY_SMOLLM2" not in os.environ:
            pytest.skip("PROMPTFERRY_SMOLLM2 is unset: no real chat model to load")
        source = Path(os.environ["PROMPTFERRY_SMOLLM2"])
    task = Task.from_toml(TASK)
    records = some(read(assets / "datasets" / "sst2" / "train.jsonl", task.label_names), 4)
    found = cosines(twins_of(source, Placement(device="cpu")), task, records)
    assert found["int8"].mean() > BAR, found


@pytest.mark.parametrize("layers", ["1", "0"])
def test_each_prompt_is_asked_on_every_twin(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], layers: str
) -> None:
    given = [f"--{name}={option(inputs, name)}" for name in ("task", "private", "test", "public")]
    short = ["--lines=2", "--rows=20", "--texts=20", "--tests=5", "--steps=2", f"--layers={layers}"]
    out = tmp_path / "rows.jsonl"
    words = [*given, *short, f"--model={option(inputs, 'target')}", "--made-on=none,nf4", f"--out={out}"]
    with pytest.raises(SystemExit) as ended:
        console.run(app, words)
    assert not ended.value.code
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    made = ["accuracy, made on none", "accuracy, made on nf4"]
    assert [row["what"] for row in rows] == ["mean cosine, 2 lines", "least cosine, 2 lines", *made]
    assert all(list(row["of"]) == list(quantised.TWINS) for row in rows)
    assert "| accuracy, made on nf4 |" in capsys.readouterr().out
