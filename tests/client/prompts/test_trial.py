"""A prompt is tried through stock PEFT: words, heads and free text."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from client.prompts import directory as artifact
from coordinator.home import pki
from tests.client.prompts.recipient import TARGET, assert_refused
from transfer.models.generation import answers
from transfer.models.loading import load
from transfer.peft_directory import CONFIG_FILE, HEAD_FILE
from transfer.post.evaluation import class_logits
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task
from transfer.tokens.readout import label_logits


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_prompt_is_tried_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path, tiny_masked: Path, kind: str
) -> None:
    directory = {"causal": tiny_causal, "masked": tiny_masked}[kind]
    model = load(directory)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

    delivery.publish("sst2", model.ref, vectors, forge=lambda told: told.update(lm_head=model.lm_head))
    assert run("fetch", "sst2", "--out", tmp_path / "got").status == 0
    texts = ["The film was great and the actors were good.", "A terrible plot."]
    words = ["try", tmp_path / "got", "--model", directory, "--text", texts[0], "--text", texts[1]]
    results = run(*words, "--format", "json").json["results"]

    encoder = model.encoder(delivery.task)
    logits = model.answer_logits(encoder.encode(texts), SoftPrompt(vectors, model.ref))
    expected = label_logits(logits, encoder.words).softmax(dim=1)
    for result, row in zip(results, expected.tolist(), strict=True):
        assert list(result["probabilities"]) == ["positive", "negative"]
        assert list(result["probabilities"].values()) == pytest.approx(row, abs=1e-5)
        assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    assert re.search(r"(positive|negative) 0\.\d{3}  (positive|negative) 0\.\d{3}  The film", run(*words).out)


TOLD = {"labels": [{"name": "good", "words": ["great evening"]}, {"name": "bad", "words": ["awful", "bad"]}]}


def test_words_of_several_tokens_are_read_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path, tiny_masked: Path
) -> None:
    for directory in (tiny_causal, tiny_masked):
        model = load(directory)
        vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

        def forge(told: dict[str, Any], lm_head: str = model.lm_head) -> None:
            told.update(lm_head=lm_head, task={**told["task"], **TOLD, "label_reading": "whole"})

        delivery.publish("words", model.ref, vectors, forge=forge)
        out = tmp_path / directory.parent.name
        assert run("fetch", "words", "--out", out).status == 0
        words = ["try", out, "--model", directory, "--text", "A terrible plot.", "--format", "json"]
        (result,) = run(*words).json["results"]
        task = artifact.verified(out, pki.load_publisher(delivery.paths.publisher_key).public_key()).task
        expected = class_logits(model, task, ["A terrible plot."], SoftPrompt(vectors, model.ref)).softmax(1)
        assert list(result["probabilities"].values()) == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.fixture
def headed(delivery) -> Task:
    labels = (Label("good", ()), Label("bad", ()), Label("neither", ()))
    return replace(delivery.task, template="{text}", labels=labels, label_reading="head")


@pytest.mark.parametrize("kind", ["tiny_causal", "tiny_masked", "tiny_encoder"])
def test_a_head_reads_what_stock_peft_makes_of_a_text(
    delivery, run, tmp_path: Path, request: pytest.FixtureRequest, kind: str, headed: Task
) -> None:
    model = load(request.getfixturevalue(kind))
    vectors = torch.randn(2 + 3, 32, generator=torch.Generator().manual_seed(0))
    told = {"lm_head": model.lm_head, "task": asdict(headed)}
    delivery.publish("heads", model.ref, vectors, forge=lambda predicate: predicate.update(told), head_rows=3)
    assert run("fetch", "heads", "--out", tmp_path / "got").status == 0
    assert (tmp_path / "got" / HEAD_FILE).is_file()
    words = ["try", tmp_path / "got", "--model", request.getfixturevalue(kind), "--text", "A terrible plot."]
    (result,) = run(*words, "--format", "json").json["results"]
    both = SoftPrompt(vectors, model.ref)
    expected = class_logits(model, headed, ["A terrible plot."], both).softmax(1)
    assert list(result["probabilities"].values()) == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("read_by_head", "head_rows", "says"),
    [
        (False, 3, "head.safetensors: a head and a task read by one belong together"),
        (True, 0, "head.safetensors: a head and a task read by one belong together"),
        (True, 2, "head.safetensors: 2 classes where the task has 3"),
    ],
)
def test_a_head_that_does_not_fit_its_task_is_refused(
    delivery, run, tmp_path: Path, headed: Task, read_by_head: bool, head_rows: int, says: str
) -> None:
    told = {"task": asdict(headed if read_by_head else delivery.task)}
    delivery.publish(
        "heads", TARGET, torch.ones(5, 32), forge=lambda signed: signed.update(told), head_rows=head_rows
    )
    assert_refused(run("fetch", "heads", "--out", tmp_path / "got"), says)


def test_an_answer_in_free_text_is_written_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path
) -> None:
    model = load(tiny_causal)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    task = replace(delivery.task, labels=(), kind="text", answer_tokens=5)
    delivery.publish("slots", model.ref, vectors, forge=lambda told: told.update(task=asdict(task)))
    assert run("fetch", "slots", "--out", tmp_path / "got").status == 0
    texts = ["The film was great.", "A terrible plot."]
    words = ["try", tmp_path / "got", "--model", tiny_causal, "--text", texts[0], "--text", texts[1]]
    expected = answers(model, task, texts, SoftPrompt(vectors, model.ref))
    results = [{"text": text, "answer": answer} for text, answer in zip(texts, expected, strict=True)]
    assert run(*words, "--format", "json").json["results"] == results
    assert all(f"{answer}  {text}" in run(*words).out for text, answer in zip(texts, expected, strict=True))


def test_a_prompt_is_not_tried_on_another_model_or_unverified(
    delivery, run, fetched: Path, tiny_causal: Path
) -> None:
    words = ["try", fetched, "--model", tiny_causal, "--text", "fine"]
    assert_refused(run(*words), "the prompt is for 'target' with digest aaaaaaaaaaaaaaaa", 2)
    (fetched / CONFIG_FILE).write_text("{}")
    assert_refused(run(*words), "adapter_config.json: SHA-256")


def test_a_prompt_tried_on_a_twin_says_what_is_known_of_that(
    delivery, run, tmp_path: Path, tiny_causal: Path
) -> None:
    model = load(tiny_causal)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    known = {"numbers": "nf4", "texts": 400, "agreement": 0.9825, "kl": 0.0123}
    delivery.publish("sst2", model.ref, vectors, forge=lambda told: told["lineage"].update(twins=[known]))
    assert run("fetch", "sst2", "--out", tmp_path / "got").status == 0
    words = ("try", tmp_path / "got", "--model", tiny_causal, "--text", "A plot.", "--device", "cpu")
    made = "the prompt was made on the target in float32"
    assert made not in run(*words).err
    assert made not in run(*words, "--dtype", "bfloat16").err
    nf4, int8 = (run(*words, "--quantise", kind) for kind in ("nf4", "int8"))
    assert nf4.status == int8.status == 0
    assert f"{made}; in nf4 98.2% of 400 public texts are answered alike, KL 0.012 nats\n" in nf4.err
    assert f"{made}; in int8 it was not measured\n" in int8.err
