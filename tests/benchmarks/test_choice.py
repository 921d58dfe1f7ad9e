"""The prompt that is surest of a text is picked, whatever its number of classes; and a choice is measured."""

import json

import pytest
import torch

from tests.benchmarks.choice import app, picked
from transfer.terminal import console


def test_the_surest_answer_is_picked_as_a_share_of_what_its_classes_allow():
    two, three = torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 0.0]])
    none = torch.zeros(2), torch.zeros(3)
    # of the second text, three classes leave 0.76 of log 3, and two leave all of log 2
    assert picked([two, three], none).tolist() == [0, 1]


def test_what_a_prompt_always_answers_makes_it_no_surer():
    always, at_times = torch.tensor([[5.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    prior = always.log_softmax(dim=1)[0], torch.zeros(2)
    assert picked([always, at_times], prior).tolist() == [1]
    assert picked([always, at_times], [torch.zeros(2)] * 2).tolist() == [0]


def test_a_choice_needs_two_tasks(capsys):
    with pytest.raises(SystemExit) as end:
        console.run(app, ["--assets=nowhere", "--tasks=sst2"])
    assert end.value.code == 2
    assert "--tasks must name two or more of" in capsys.readouterr().err


@pytest.mark.assets
@pytest.mark.slow
def test_picks_and_accuracy_are_told_for_each_rule(assets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        console.run(app, [f"--assets={assets}", "--tasks=sst2", "--tasks=airline", "--rows=40", "--steps=3"])
    assert end.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["rule"] for line in lines] == ["prior removed", "as answered"]
    assert all(
        0 <= line["accuracy"] <= min(line["picks"], line["with the task known"]) <= 1 for line in lines
    )
