"""PANDA as published is measured when it is named, and is what the paper describes."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import quality
from tests.benchmarks.panda_paper import paper_transfer
from tests.benchmarks.quality_paper import Paper
from transfer.errors import UsageError
from transfer.models.loading import load
from transfer.panda.library import LibraryRecord
from transfer.panda.scores import answer_states, task_similarity
from transfer.post.settings import TransferSettings
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt

LABELLED = [
    (f"We {verb} the {thing}.", label)
    for label, verb in enumerate(("liked", "missed"))
    for thing in ("film", "plot", "music", "food", "walk", "train")
]
TEXTS = tuple(f"We {verb} the noise." for verb in ("liked", "missed", "heard"))
SETTINGS = TransferSettings(steps=6, batch_size=6, learning_rate=0.1, check_every=3)


@pytest.fixture(scope="module")
def target(tiny_causal):
    model = load(tiny_causal)
    with torch.no_grad():  # fresh weights are so small that a prompt hardly moves an answer
        for matrix in model.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    return model


@pytest.fixture
def library(target, tiny_task):
    """Three prompts of other tasks, as random as they come."""
    return [
        LibraryRecord(
            name, prompt, prompt, replace(tiny_task, name=name), TEXTS, (name,), Guarantee(math.inf, 1e-5)
        )
        for seed, name in enumerate(("one", "two", "three"))
        for prompt in [
            SoftPrompt(torch.randn(4, 32, generator=torch.Generator().manual_seed(seed)), target.ref)
        ]
    ]


def test_the_likest_prompt_tuned_on_the_new_task_is_the_teacher_of_a_fresh_one(target, tiny_task, library):
    paper = Paper(target, tiny_task, LABELLED, TEXTS, SETTINGS)
    start, steps = target.text_prompt(tiny_task.init_text, 4), []
    prompt, source = paper.transferred(start, library, lambda step, _steps: steps.append(step))
    assert steps == [*range(1, 7)] * 3

    def learnt(start, teacher, similarity):
        return paper_transfer(start, teacher, similarity, target, tiny_task, LABELLED, SETTINGS).prompt

    lines = target.encoder(tiny_task).encode(TEXTS)
    own = answer_states(target, lines, learnt(start, library[0].prompt, 0.0))
    similar = {each.name: task_similarity(own, answer_states(target, lines, each.prompt)) for each in library}
    assert source.name == max(similar, key=similar.get)
    assert 0 < similar[source.name] < 0.999
    assert len({round(value, 4) for value in similar.values()}) == 3
    teacher = learnt(source.prompt, source.prompt, 0.0)
    assert torch.equal(prompt.vectors, learnt(start, teacher, similar[source.name]).vectors)
    for other in (source.prompt, start):
        assert not torch.equal(prompt.vectors, learnt(start, other, similar[source.name]).vectors)


def other_task(inputs, folder):
    """Options that name the same task by another name."""
    path = folder / "other.toml"
    path.write_text(Path(inputs[inputs.index("--task") + 1]).read_text().replace('"reviews"', '"other"'))
    return ["--task", str(path)]


@pytest.mark.slow
def test_it_is_measured_once_a_seed_with_labels_in_one_place_and_no_epsilon(inputs, tmp_path, capfd):
    out, library = tmp_path / "out.json", tmp_path / "library"
    given = [*inputs, "--clients", "1", "--library", str(library), "--out", str(out)]
    quality.main([*given, "--methods", "post"])
    assert len(json.loads(next(library.iterdir()).read_text())["texts"]) == 30
    asked = ["--methods", "paper,post", "--epsilon", "8,inf", "--seeds", "2"]
    quality.main([*given, *other_task(inputs, tmp_path), *asked])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    papers = [line for line in lines if line["method"] == "paper"]
    assert [line["settings"]["seed"] for line in papers] == [0, 1]
    assert {"epsilon", "clients", "rounds", "proxy", "transfer_alpha"}.isdisjoint(papers[0]["settings"])
    assert [(line["library"], line["kept"]) for line in papers] == [("reviews", True)] * 2
    told = capfd.readouterr()
    assert "library prompt reviews kept" in told.err
    assert "PANDA as published" in told.out


@pytest.mark.parametrize("texts", ["nothing", "no texts"])
def test_a_library_without_a_source_is_refused_before_anything_is_measured(inputs, tmp_path, capsys, texts):
    out, library = tmp_path / "out.json", tmp_path / "library"
    given = [*inputs, "--library", str(library), "--out", str(out)]
    if texts == "no texts":  # as files were once
        quality.main([*given, "--methods", "post", "--clients", "1", "--epsilon", "inf"])
        (kept,) = library.iterdir()
        told = json.loads(kept.read_text())
        kept.write_text(json.dumps({name: value for name, value in told.items() if name != "texts"}))
    before = out.read_bytes() if out.exists() else b""
    with pytest.raises(SystemExit) as ended:
        quality.main([*given, *other_task(inputs, tmp_path), "--methods", "bare,paper"])
    assert ended.value.code == UsageError.exit_status
    assert {"nothing": "no prompt of another task yet", "no texts": "'reviews' has no texts"}[texts] in (
        capsys.readouterr().err
    )
    assert out.read_bytes() == before


@pytest.mark.parametrize("method", ["library", "paper"])
def test_a_task_read_by_a_head_asks_no_library(inputs, tiny_encoder, tmp_path, capsys, method):
    (tmp_path / "head.toml").write_text(
        'name = "reviews"\ntemplate = "{text}"\ninit_text = "A review"\nmax_tokens = 32\n'
        'label_reading = "head"\n[labels]\npositive = []\nnegative = []\n'
    )
    head = ["--target", str(tiny_encoder), "--task", str(tmp_path / "head.toml")]
    given = [*inputs, *head, "--library", str(tmp_path / "library"), "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit) as ended:
        quality.main([*given, "--methods", method])
    assert ended.value.code == UsageError.exit_status
    assert f"method {method!r} needs label words, and the task is read by a head" in capsys.readouterr().err
