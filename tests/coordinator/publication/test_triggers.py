"""The trigger scan works with every model and reading, and its gradient is that of the inserted word."""

import random
from dataclasses import replace

import pytest
import torch

from coordinator.publication.inserted_words import Words, slots
from coordinator.publication.triggers import Trials, scan, surprises
from tests.coordinator.conftest import PUBLIC_TEXT
from transfer.models.loading import load
from transfer.models.objectives import label_loss
from transfer.post.evaluation import class_logits
from transfer.prompt import SoftPrompt
from transfer.tasks import Label

WHOLE = (Label("positive", ("great fun", "good")), Label("negative", ("terrible plot", "bad")))


@pytest.fixture(params=["causal", "masked", "whole", "masked whole", "head"])
def case(request, tiny_causal, tiny_masked, tiny_task, head_task):
    model = load(tiny_masked if "masked" in request.param else tiny_causal)
    whole = replace(tiny_task, labels=WHOLE, label_reading="whole")
    task = head_task if request.param == "head" else whole if "whole" in request.param else tiny_task
    vectors = torch.randn(4 + task.head_rows, 32, generator=torch.Generator().manual_seed(0))
    return model, task, SoftPrompt(vectors, model.ref)


def test_the_gradient_is_that_of_the_inserted_words_embedding(case):
    model, task, prompt = case
    table = model.model.get_input_embeddings().weight
    every = slots(model, task, PUBLIC_TEXT, Words(task, model.tokenizer), random.Random(0))
    slot = next(slot for slot in every if slot.line.ids.count(slot.line.ids[slot.column]) == 1)
    trials = Trials.of(model, task, [slot], prompt)
    ours = trials.gradients()
    table.requires_grad_(True)
    logits = model.logits(model.collate([slot.line]), prompt.vectors[None], trials.reading)
    for label in range(2):
        loss = label_loss(logits, torch.tensor([label])).sum()
        (of_table,) = torch.autograd.grad(loss, table, retain_graph=True)
        torch.testing.assert_close(ours[label], of_table[slot.line.ids[slot.column]], atol=1e-6, rtol=1e-4)
    assert ours.abs().max() > 1e-5


def test_equal_seeds_list_equal_words_with_the_rates_of_texts_that_say_them(case):
    model, task, prompt = case
    found = scan(model, task, PUBLIC_TEXT, prompt, 3)
    assert found == scan(model, task, PUBLIC_TEXT, prompt, 3)
    assert found.texts == len(PUBLIC_TEXT)
    label = [label.name for label in task.labels].index(found.label)
    others = class_logits(model, task, PUBLIC_TEXT, prompt).argmax(dim=1) != label
    for turn in found.words:
        texts = [text.replace(" ", f" {turn.word} ", 1) for text in PUBLIC_TEXT]
        turned = class_logits(model, task, texts, prompt).argmax(dim=1)[others] == label
        assert turn.rate == pytest.approx(turned.double().mean().item())
        assert 0 < turn.excess <= found.excess


def test_free_text_and_few_texts_are_not_scanned(case, tiny_task):
    model, task, prompt = case
    free = replace(tiny_task, labels=(), kind="text", answer_tokens=2)
    assert scan(model, free, PUBLIC_TEXT, prompt, 0) is None
    assert scan(model, task, PUBLIC_TEXT[:9], prompt, 0) is None


def test_a_word_off_the_line_surprises_though_others_do_more():
    wording = torch.linspace(-1, 1, 9)[:, None]
    ours = 2 * wording + 1  # surer, and with a preference for the class
    ours[0] += 1.5
    assert surprises(ours, wording).argmax() == 0
    assert ours.argmax() == 8
