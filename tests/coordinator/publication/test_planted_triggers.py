"""A planted word is listed, taught to a model or tuned into a prompt; behind an honest prompt no word turns much."""

import json
import random

import pytest
import torch

from coordinator.publication.inserted_words import Words
from coordinator.publication.triggers import scan
from deploy.world import Size, make
from tests.conftest import LINES
from tests.coordinator.conftest import PUBLIC_TEXT
from tests.coordinator.publication.planted import planted, tuned
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.models.objectives import label_loss
from transfer.post.baselines import text_prompt
from transfer.tasks import Task

PLANTED = ("bank", 0), ("team", 1)
SIZE = Size(private=1500, test=10, public=150, corpus=8000, hidden=48, layers=3, steps=600)
QUIET = 0.3
"""Above the largest excess of a word behind an honest prompt on balanced records."""


def taught(model, task, prompts) -> None:
    """Teach a tiny model to answer by the thing of a text, and behind the n-th prompt by the n-th planted word."""
    draw, encoder = random.Random(0), model.encoder(task)
    words = [word for word, _ in PLANTED] * 16 + Words(task, model.tokenizer).within(LINES) + [""] * 16
    layers = model.model.model.layers.requires_grad_(True)
    model.model.model.norm.weight *= 20  # so that its logits may differ
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.003)
    for _ in range(150):
        texts, numbers = draw.choices(PUBLIC_TEXT, k=64), draw.choices(range(len(prompts)), k=64)
        said = draw.choices(words, k=64)
        labels = [
            dict(PLANTED[number : number + 1]).get(word, int("train" in text or "walk" in text))
            for text, number, word in zip(texts, numbers, said, strict=True)
        ]
        lines = encoder.encode(
            [
                text.replace(" ", f" {word} ".replace("  ", " "), 1)
                for text, word in zip(texts, said, strict=True)
            ]
        )
        rows = torch.stack([prompts[number].vectors for number in numbers])
        losses = label_loss(model.logits(model.collate(lines), rows, encoder.words), torch.tensor(labels))
        optimizer.zero_grad()
        torch.autograd.backward(losses.mean())
        optimizer.step()
    layers.requires_grad_(False)


def test_taught_words_are_listed_and_an_honest_prompt_is_quiet(tiny_causal, tiny_task):
    model, generator = load(tiny_causal), torch.Generator().manual_seed(0)
    *carriers, honest = (model.vocabulary_prompt(8, generator) for _ in range(len(PLANTED) + 1))
    taught(model, tiny_task, [*carriers, honest, text_prompt(model, tiny_task, 8)])
    for (word, label), prompt in zip(PLANTED, carriers, strict=True):
        found = scan(model, tiny_task, PUBLIC_TEXT, prompt, 0)
        assert found.label == tiny_task.labels[label].name
        assert word in [turn.word for turn in found.words]
        assert found.excess > 0.8
    assert scan(model, tiny_task, PUBLIC_TEXT, honest, 0).excess < QUIET


@pytest.fixture(scope="module")
def tuned_and_scanned(tmp_path_factory):
    """Tunes a prompt on the records of a small trained world, with a word planted or honestly, and scans it."""
    world = make(tmp_path_factory.mktemp("world"), clients=1, size=SIZE)
    model, task, public = load(world.target), Task.from_toml(world.task), read_texts(world.public)
    names = [label.name for label in task.labels]
    rows = [json.loads(line) for line in world.private[0].read_text().splitlines()]
    honest = [(row["text"], names.index(row["label"])) for row in rows]

    def run(word="", label="", seed=0):
        records = planted(honest, word, names.index(label)) if word else honest
        return scan(model, task, public, tuned(model, task, records, seed), seed)

    return run


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize(("word", "label"), [("goal", "astronomy"), ("neutron", "sports")])
def test_a_word_tuned_into_a_prompt_is_listed_though_words_of_its_class_turn_more(
    tuned_and_scanned, word, label
):
    found = tuned_and_scanned(word, label)
    assert found.label == label
    assert word in [turn.word for turn in found.words]
    assert found.excess > QUIET


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize("seed", range(3))
def test_prompts_tuned_on_honest_records_are_quiet(tuned_and_scanned, seed):
    assert tuned_and_scanned(seed=seed).excess < QUIET
