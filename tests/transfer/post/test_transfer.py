import copy
from dataclasses import replace

import pytest
import torch

from tests.transfer.post.transfers import QUICK, TEXTS, Forwards
from transfer.errors import TaskError, UsageError
from transfer.models.generation import answered
from transfer.models.objectives import divergences
from transfer.post.alpha import agreement
from transfer.post.baselines import logit_arithmetic
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.post.transfer import held_out_losses, initial_prompt, transfer, transfer_problem
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task


def weights(model):
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def test_transfer_lowers_the_held_out_loss_and_returns_the_best_step(prompt, proxy, target, tiny_task):
    found = transfer(prompt, proxy, target, tiny_task, TEXTS, QUICK)
    assert found.held_out_loss < 0.9 * found.start_loss
    assert 0 < found.best_step <= QUICK.steps
    assert (found.prompt.length, found.prompt.width) == (prompt.length, target.width)
    assert found.prompt.model == target.ref
    start = initial_prompt(prompt, proxy, target, tiny_task, TransferSettings())
    candidates = {"start": start, "best": found.prompt}
    losses = held_out_losses(candidates, prompt, proxy, target, tiny_task, TEXTS, QUICK)
    assert losses["start"] == pytest.approx(found.start_loss, rel=1e-5)
    assert losses["best"] == pytest.approx(found.held_out_loss, rel=1e-5)


def test_transfer_that_only_harms_returns_the_start(prompt, proxy, target, tiny_task):
    harmful = replace(QUICK, learning_rate=1e3, steps=6, check_every=2)
    found = transfer(prompt, proxy, target, tiny_task, TEXTS, harmful)
    assert (found.best_step, found.held_out_loss) == (0, found.start_loss)
    assert torch.equal(found.prompt.vectors, prompt.vectors)


def test_free_text_is_compared_at_every_token_of_the_prompted_proxys_answer(target, proxy, prompt):
    task = Task("slots", "{text} It was {answer}", (), "A sentence", 32, kind="text", answer_tokens=3)
    settings = replace(QUICK, space="vocabulary", alpha=0.0, steps=0)
    problem = transfer_problem(prompt, proxy, target, task, TEXTS, settings)
    lines = answered(proxy, task, TEXTS, prompt)
    assert max(line.reads for line in lines) > 1
    start = initial_prompt(prompt, proxy, target, task, TransferSettings())
    ours, theirs = target.answer_logits(lines, start), proxy.answer_logits(lines, prompt)
    each, begin = divergences(theirs, ours, settings.temperature), 0
    expected = []
    for line in lines:
        expected.append(each[begin : begin + line.reads].mean().item())
        begin += line.reads
    losses = problem.losses_of(start.vectors, range(len(TEXTS)))
    torch.testing.assert_close(losses, torch.tensor(expected).double(), rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="free text has no labels"):
        transfer_problem(prompt, proxy, target, task, TEXTS, QUICK)


@pytest.mark.parametrize("steps", [0, 5])
def test_the_proxys_prompt_is_neither_changed_nor_shared(prompt, proxy, target, tiny_task, steps):
    before = prompt.vectors.clone()
    found = transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, steps=steps))
    found.prompt.vectors.zero_()
    assert torch.equal(prompt.vectors, before)


def test_no_weight_of_either_model_changes(prompt, proxy, target, tiny_task):
    before = weights(proxy), weights(target)
    transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, steps=5))
    for model, then in zip((proxy, target), before, strict=True):
        assert all(torch.equal(value, then[name]) for name, value in model.model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.model.parameters())


def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(prompt, proxy, target, tiny_task):
    settings = replace(QUICK, steps=5)
    once, again, other = (
        transfer(prompt, proxy, target, tiny_task, TEXTS, replace(settings, seed=seed)) for seed in (0, 0, 1)
    )
    assert once.prompt.to_bytes() == again.prompt.to_bytes() != other.prompt.to_bytes()


@pytest.mark.parametrize(
    ("alpha", "references"),
    [(0.5, [("proxy", False), ("proxy", False), ("target", False)]), (0.0, [("proxy", False)])],
)
def test_the_references_are_computed_once(prompt, proxy, target, tiny_task, alpha, references):
    settings = replace(QUICK, steps=10, check_every=5, alpha=alpha)
    with Forwards(proxy=proxy, target=target) as forwards:
        transfer(prompt, proxy, target, tiny_task, TEXTS, settings)
    assert forwards.seen[: len(references)] == references
    later = forwards.seen[len(references) :]
    assert later.count(("target", True)) == 10
    assert later.count(("target", False)) == 4  # the start, step 5, step 10, the mean of the last iterates
    assert len(later) == 14


def test_alpha_by_agreement_is_the_transfer_at_that_alpha(proxy, target, tiny_task):
    generator = torch.Generator().manual_seed(1)  # behind this prompt some answers are the bare target's
    prompt = SoftPrompt(torch.randn(4, proxy.width, generator=generator), proxy.ref)
    prompted, bare = (
        class_logits(proxy, tiny_task, TEXTS, prompt),
        class_logits(target, tiny_task, TEXTS, None),
    )
    alpha = agreement(prompted, bare)
    assert 0 < alpha < 1
    named, found = (
        transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, alpha=value))
        for value in (alpha, "agreement")
    )
    assert found.settings == named.settings
    assert found.prompt.to_bytes() == named.prompt.to_bytes()


def test_held_out_texts_are_never_trained_on(prompt, proxy, target, tiny_task):
    encoded = {line.ids: index for index, line in enumerate(target.encoder(tiny_task).encode(TEXTS))}
    trained, measured = set(), set()

    def note(_module, inputs):
        if inputs[0].ndim < 2:  # the words of the start
            return
        lines = {encoded[tuple(token for token in row if token != 0)] for row in inputs[0].tolist()}
        if torch.is_grad_enabled():
            trained.update(lines)
        elif trained:  # the references of all texts come before the first step
            measured.update(lines)

    handle = target.model.get_input_embeddings().register_forward_pre_hook(note)
    transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, steps=40))
    handle.remove()
    assert len(measured) == round(QUICK.held_out * len(TEXTS))
    assert measured.isdisjoint(trained)
    assert measured | trained == set(encoded.values()) == set(range(len(TEXTS)))


def test_every_training_text_is_used_before_any_is_used_again(prompt, proxy, target, tiny_task):
    rows = []

    def note(_module, inputs):
        if torch.is_grad_enabled():
            rows.extend(tuple(row) for row in inputs[0].tolist())

    handle = target.model.get_input_embeddings().register_forward_pre_hook(note)
    train = len(TEXTS) - round(QUICK.held_out * len(TEXTS))
    transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, steps=1, batch_size=train))
    handle.remove()
    assert len(rows) == len(set(rows)) == train


def test_labels_of_the_task_play_no_part_but_their_words(prompt, proxy, target, tiny_task):
    swapped = replace(tiny_task, labels=tiny_task.labels[::-1])
    settings = replace(QUICK, steps=5)
    ours, theirs = (transfer(prompt, proxy, target, task, TEXTS, settings) for task in (tiny_task, swapped))
    assert ours.held_out_loss == pytest.approx(theirs.held_out_loss, rel=1e-4)


def test_another_width_starts_from_the_tasks_text(prompt, proxy, wide, tiny_task):
    start = initial_prompt(prompt, proxy, wide, tiny_task, TransferSettings())
    assert torch.equal(start.vectors, wide.text_prompt(tiny_task.init_text, 4).vectors)
    found = transfer(prompt, proxy, wide, tiny_task, TEXTS, replace(QUICK, steps=5))
    assert (found.prompt.width, found.prompt.model) == (48, wide.ref)
    assert found.held_out_loss <= found.start_loss


def test_the_start_is_what_the_settings_say(prompt, proxy, target, tiny_task):
    ours = initial_prompt(prompt, proxy, target, tiny_task, TransferSettings())
    assert (ours.model, torch.equal(ours.vectors, prompt.vectors)) == (target.ref, True)
    text = initial_prompt(prompt, proxy, target, tiny_task, TransferSettings(start="text"))
    assert torch.equal(text.vectors, target.text_prompt(tiny_task.init_text, 4).vectors)


def test_a_prompt_of_the_target_has_the_length_that_the_settings_say(prompt, proxy, target, tiny_task):
    longer, shorter = (
        initial_prompt(prompt, proxy, target, tiny_task, TransferSettings(length=length)) for length in (6, 3)
    )
    assert torch.equal(longer.vectors[:4], prompt.vectors)
    assert torch.equal(longer.vectors[4:], target.text_prompt(tiny_task.init_text, 6).vectors[4:])
    assert torch.equal(shorter.vectors, prompt.vectors[:3])
    found = transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, length=6))
    assert found.prompt.length == 6
    assert found.held_out_loss < found.start_loss


def test_the_head_behind_a_longer_prompt_stays_the_last_rows(proxy, target, head_task):
    rows = head_task.head_rows
    both = SoftPrompt(
        torch.randn(4 + rows, proxy.width, generator=torch.Generator().manual_seed(0)), proxy.ref
    )
    start = initial_prompt(both, proxy, target, head_task, TransferSettings(length=6))
    assert start.length == 6 + rows
    assert torch.equal(start.vectors[6:], both.vectors[4:])


def test_the_summed_change_is_the_divergence_from_logit_arithmetic(prompt, proxy, target, tiny_task):
    settings = replace(QUICK, alpha=1.0, imitate="sum")
    problem = transfer_problem(prompt, proxy, target, tiny_task, TEXTS, settings)
    ours = target.text_prompt(tiny_task.init_text, 4)
    logits = problem.answers(ours)
    wanted = divergences(
        logit_arithmetic(prompt, proxy, target, tiny_task, TEXTS), logits, settings.temperature
    )
    found = problem.losses_of(ours.vectors, range(len(TEXTS)))
    torch.testing.assert_close(found, wanted.double(), atol=1e-5, rtol=1e-4)
    half = transfer_problem(prompt, proxy, target, tiny_task, TEXTS, replace(settings, alpha=0.5))
    imitated = transfer_problem(prompt, proxy, target, tiny_task, TEXTS, replace(settings, alpha=0.0))
    mean = (found + imitated.losses_of(ours.vectors, range(len(TEXTS)))) / 2
    torch.testing.assert_close(half.losses_of(ours.vectors, range(len(TEXTS))), mean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("space", ["labels", "vocabulary"])
def test_one_vocabulary_allows_either_space(prompt, proxy, target, tiny_task, space):
    found = transfer(prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, space=space))
    assert found.settings.space == space
    assert found.held_out_loss < found.start_loss


def test_different_tokenisers_meet_in_the_labels_only(prompt, proxy, masked, tiny_task):
    with pytest.raises(UsageError, match="in the space of labels"):
        transfer(prompt, proxy, masked, tiny_task, TEXTS, replace(QUICK, space="vocabulary"))
    found = transfer(prompt, proxy, masked, tiny_task, TEXTS, replace(QUICK, steps=5))
    assert found.prompt.model == masked.ref


def test_a_padded_head_is_another_vocabulary(prompt, proxy, target, tiny_task):
    padded = copy.deepcopy(target.model)
    padded.resize_token_embeddings(408, mean_resizing=False)
    other = replace(target, model=padded)
    with pytest.raises(UsageError, match="different vocabularies"):
        transfer(prompt, proxy, other, tiny_task, TEXTS, replace(QUICK, space="vocabulary"))


def test_label_words_must_fit_the_target_too(prompt, proxy, masked):
    labels = (Label("positive", ("great",)), Label("negative", ("Great",)))
    with pytest.raises(TaskError):
        transfer(prompt, proxy, masked, Task("case", "{text} It was {answer}", labels, "Case"), TEXTS, QUICK)


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_texts_are_refused(prompt, proxy, target, tiny_task, count):
    with pytest.raises(UsageError, match=f"{count} public texts are too few"):
        transfer(prompt, proxy, target, tiny_task, TEXTS[:count], QUICK)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_some_text_is_always_held_out_and_some_trained_on(prompt, proxy, target, tiny_task, share):
    settings = replace(QUICK, steps=2, held_out=share)
    assert transfer(prompt, proxy, target, tiny_task, TEXTS[:10], settings).held_out_loss > 0


def test_progress_counts_every_step(prompt, proxy, target, tiny_task):
    seen = []
    settings = replace(QUICK, steps=3)
    transfer(
        prompt, proxy, target, tiny_task, TEXTS, settings, lambda step, steps: seen.append((step, steps))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
