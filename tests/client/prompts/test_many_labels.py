"""A prompt whose head gives several labels a text: published, fetched, shown and tried."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.client.prompts.recipient import TARGET, assert_refused
from transfer.models.loading import load
from transfer.post.evaluation import class_logits, decided
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task

TEXTS = ("The film was great.", "A terrible plot, a bad ending and a boring evening.", "good")
LABELS = (Label("praise", (), 2.0), Label("blame", ()), Label("sport", ()))


@pytest.fixture
def topics(delivery) -> Task:
    keys = {"template": "{text}", "labels": LABELS, "label_reading": "head", "many": True}
    return replace(delivery.task, **keys, threshold=0.6)


def test_each_label_is_tried_with_its_probability_and_whether_it_applies(
    delivery, run, tmp_path: Path, tiny_causal: Path, topics: Task
) -> None:
    model, out = load(tiny_causal), tmp_path / "got"
    vectors = 2 * torch.randn(2 + 3, 32, generator=torch.Generator().manual_seed(0))
    signed = {"lm_head": model.lm_head, "task": asdict(topics)}
    delivery.publish("topics", model.ref, vectors, forge=lambda told: told.update(signed), head_rows=3)
    assert run("fetch", "topics", "--out", out).status == 0

    words = ["try", out, "--model", tiny_causal, *(f"--text={text}" for text in TEXTS)]
    results = run(*words, "--format", "json").json["results"]
    logits = class_logits(model, topics, TEXTS, SoftPrompt(vectors, model.ref))
    names = [[LABELS[index].name for index in own] for own in decided(topics, logits)]
    assert {len(own) for own in names} != {1}  # nor would one label a text do
    for result, own, row in zip(results, names, logits.sigmoid().tolist(), strict=True):
        assert "label" not in result
        assert result["labels"] == own
        assert list(result["probabilities"].values()) == pytest.approx(row, abs=1e-5)
    for line, result in zip(run(*words).out.splitlines(), results, strict=True):
        for name, chance in result["probabilities"].items():
            assert f"{'✓ ' * (name in result['labels'])}{name} {chance:.3f}" in line
        assert line.count("✓") == len(result["labels"])

    shown = run("show", "topics").out
    assert "any number a text: those of a probability above 0.6" in shown
    assert "read by a head, weight 2\n" in shown
    stated = run("show", "topics", "--format", "json").json["statement"]["task"]
    assert (stated["many"], stated["threshold"]) == (True, 0.6)


def test_a_statement_of_an_impossible_threshold_is_refused(
    delivery, run, tmp_path: Path, topics: Task
) -> None:
    told = {"task": {**asdict(topics), "threshold": 1.5}}
    delivery.publish(
        "topics", TARGET, torch.ones(5, 32), forge=lambda signed: signed.update(told), head_rows=3
    )
    refused = run("fetch", "topics", "--out", tmp_path / "got")
    assert_refused(refused, r"threshold 1\.5 must be in \(0, 1\)")
