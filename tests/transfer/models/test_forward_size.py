"""Public text goes through a model in passes that fit into memory."""

from dataclasses import replace

import pytest
import torch

from tests.small_memory import small_memory
from tests.transfer.distillation.lessons import SHORT, drawn, proxy_of, stirred
from tests.transfer.models.test_generation import TASK
from transfer.distillation import exercises
from transfer.distillation.distil import _Distillation
from transfer.errors import ModelError
from transfer.models.forward_size import TOKENS_ELSEWHERE, ForwardSize, attempted, forward_tokens
from transfer.models.generation import answers
from transfer.panda.scores import answer_states
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.tokens.batches import FORWARD_TOKENS

TEXTS = [
    f"The {kind} film was {how}." for kind in ("old", "new", "long") for how in ("good", "bad", "great")
] * 3
ROOM = 60
"""Tokens: a few of these texts."""


def test_a_pass_is_larger_where_a_cpu_s_caches_do_not_bound_it():
    here, there = (forward_tokens(torch.device(name)) for name in ("cpu", "cuda"))
    assert (here, there) == (FORWARD_TOKENS, TOKENS_ELSEWHERE)
    assert here < there


def test_what_the_allocator_refuses_is_memory_that_ran_out_and_nothing_else_is():
    assert attempted(lambda: torch.empty(2**55, dtype=torch.uint8)) is None
    assert attempted(lambda: 3) == 3
    with pytest.raises(RuntimeError, match="shape"):
        attempted(lambda: torch.ones(2) @ torch.ones(3, 2))


def test_every_text_is_in_one_pass_that_ran_whole_and_the_smaller_size_stays():
    size, ran, failed = ForwardSize("tiny", torch.device("cpu"), padded=True), [], []

    def grouped(chosen):
        chosen, rows = list(chosen), max(1, size.tokens // 100)
        return (chosen[start : start + rows] for start in range(0, len(chosen), rows))

    def run(group):
        if len(group) > 3 or (len(group) > 1 and 17 in group):
            failed.append(group)
            raise torch.OutOfMemoryError("out of memory")
        ran.extend(group)
        return sum(group)

    for _ in range(2):
        ran.clear()
        results = list(size.of_groups(range(20), grouped, run))
        assert ran == [index for group, _ in results for index in group] == list(range(20))
        assert all(result == sum(group) for group, result in results)
    assert failed[0] == list(range(15))
    assert [len(group) for group in failed] == [15, 7, 3], "the 3 with number 17, and nothing the second time"


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("space", ["labels", "vocabulary"])
def test_a_transfer_is_the_same_in_smaller_passes(causal, tiny_task, space, behind):
    target = stirred(causal)
    proxy = proxy_of(target)
    prompt = proxy.vocabulary_prompt(4, torch.Generator().manual_seed(0))
    settings = TransferSettings(steps=4, check_every=2, space=space, learning_rate=0.05)
    whole = transfer(prompt, proxy, target, tiny_task, TEXTS, settings)
    proxy, target = replace(proxy), replace(target)
    with small_memory(target, ROOM, behind=behind) as failed, small_memory(proxy, ROOM):
        ours = transfer(prompt, proxy, target, tiny_task, TEXTS, settings)
    assert failed
    assert target.size.tokens <= ROOM
    torch.testing.assert_close(ours.prompt.vectors, whole.prompt.vectors, rtol=1e-3, atol=1e-4)
    assert ours.held_out_loss == pytest.approx(whole.held_out_loss, rel=1e-4)
    assert ours.best_step == whole.best_step


def test_answers_and_states_are_the_same_in_smaller_passes(causal):
    model = stirred(causal)
    lines = model.encoder(TASK).encode(TEXTS)
    written, states = answers(model, TASK, TEXTS), answer_states(model, lines, None)
    with small_memory(model, ROOM) as failed:
        assert answers(model, TASK, TEXTS) == written
    assert failed
    with small_memory(model, ROOM // 2) as failed:
        torch.testing.assert_close(answer_states(model, lines, None), states)
    assert failed


def test_a_text_that_does_not_fit_alone_is_an_error_that_says_what_to_lower(causal, tiny_task):
    lines = causal.encoder(tiny_task).encode(TEXTS)
    with (
        small_memory(causal, 3),
        pytest.raises(ModelError, match=r"'tiny-causal': not even one .* max_tokens"),
    ):
        causal.answer_logits(lines)


def learnt(run, parts):
    run.proxy.model.requires_grad_(True)
    terms = run.learn(parts)
    return terms, torch.cat([weight.grad.flatten() for weight in run.proxy.model.parameters()])


@pytest.mark.parametrize("behind", [False, True])
def test_a_batch_learnt_again_in_smaller_pieces_counts_once(model, behind, monkeypatch):
    settings = replace(SHORT, batch_tokens=400, kl_at="all")
    parts = drawn(model, settings)[:2]
    again = _Distillation(stirred(model), proxy_of(model), settings)
    with small_memory(again.proxy, 120, behind=behind) as failed:
        terms, gradient = learnt(again, parts)
        measured = again.measure(parts)
    assert failed
    monkeypatch.setattr("transfer.distillation.distil.PASS_TOKENS", again.proxy.size.tokens)
    outright = _Distillation(model, proxy_of(model), settings)
    wanted_terms, wanted = learnt(outright, parts)
    assert torch.equal(gradient, wanted)
    assert torch.equal(terms, wanted_terms)
    assert measured == pytest.approx(outright.measure(parts), rel=1e-4)


def test_texts_that_are_compared_with_one_another_are_not_split(headless):
    run = _Distillation(headless, proxy_of(headless), SHORT)
    with small_memory(run.proxy, 20), pytest.raises(ModelError, match="lower batch_tokens"):
        run.learn(drawn(headless, SHORT)[:1])
    assert exercises.PASS_TOKENS > 20
