"""From a start of the library, the tasks that taught it are near."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.panda.libraries import OTHER, TEXTS, noise, record
from transfer.models.objectives import divergence
from transfer.panda.reptile import MOVES, STEPS, library_start
from transfer.post.evaluation import class_logits


@pytest.fixture(scope="module")
def records(new):
    """Two tasks of one proxy, each with a prompt that answers in its own way."""
    one = record(
        new, "prompts/one/versions/1", proxy_prompt=noise(new.proxy.ref, 1), task=new.task, texts=TEXTS
    )
    return [
        one,
        record(new, "prompts/two/versions/1", proxy_prompt=noise(new.proxy.ref, 2), task=OTHER, texts=TEXTS),
    ]


def test_a_start_is_nearer_to_every_task_that_taught_it(new, records):
    text, seen = new.proxy.text_prompt(new.task.init_text, 4), []
    start = library_start(new.proxy, text, records, 0, lambda *step: seen.append(step))
    assert (start.model, start.length) == (new.proxy.ref, 4)
    assert seen == [(step + 1, len(seen)) for step in range(MOVES * STEPS * 2)]
    for item in records:
        taught = class_logits(new.proxy, item.task, TEXTS, item.proxy_prompt)
        before, after = (
            divergence(taught, class_logits(new.proxy, item.task, TEXTS, prompt), 2.0)
            for prompt in (text, start)
        )
        assert after < 0.7 * before


def test_a_start_is_learnt_alike_from_the_same_prompts_and_otherwise_from_others(new, records, monkeypatch):
    monkeypatch.setattr("transfer.panda.reptile.MOVES", 2)
    text, other = new.proxy.text_prompt(new.task.init_text, 4), noise(new.proxy.ref, 9)
    both, again, one, swapped = (
        library_start(new.proxy, text, given, 0).vectors
        for given in (records, records, records[:1], [replace(records[0], proxy_prompt=other)])
    )
    assert torch.equal(both, again)
    assert not torch.allclose(both, one)
    assert not torch.allclose(one, swapped)
