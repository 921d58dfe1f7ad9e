"""Faults of published code for soft-prompt transfer, and the test that ours does not have them.

| published fault | test |
|---|---|
| POST 1: the source prompt trains along | test_the_proxys_prompt_is_neither_changed_nor_shared |
| POST 2: a "fixed" public subset is drawn anew each epoch | test_held_out_texts_are_never_trained_on |
| POST 3, PANDA: the teacher answers with dropout | test_a_proxy_cut_from_a_configuration_answers_without_dropout |
| the same in distillation | test_the_target_answers_without_dropout_while_the_proxy_learns_with_it |
| POST 4, PANDA: constants carry gradients and are computed anew each step | test_the_references_are_computed_once |
| the same in the loss | test_gradients_reach_the_prompted_answer_alone |
| POST 4: the head multiplies every position | test_the_head_reads_one_position_a_record |
| POST 5, PANDA: the step is chosen on private or test data | test_held_out_texts_are_never_trained_on |
| the same with public labels | test_a_jsonl_file_is_read_for_its_texts_and_never_for_labels |
| the same in tuning | test_the_tuned_prompt_is_that_of_the_last_step |
| POST 6: macro average here, micro there | test_micro_counts_records_and_macro_counts_classes |
| POST 7: "zero-shot" has a prompt | test_the_prompt_matters_and_none_is_the_bare_model |
| POST 8: the learning rate follows the private loss | test_private_records_do_not_touch_the_learning_rate |
| POST 9: an empty Poisson draw crashes | test_an_empty_step_still_moves_by_noise |
| POST 9: accounted for as if sampled | test_steps_without_records_learn_nothing_from_any |
| the same of a wrong number of steps | test_tuning_takes_exactly_the_steps_that_were_paid_for |
| POST 10: clipping bounds the step as well as the record | test_clipping_does_not_shrink_the_step |
| POST 11: δ about 1/N | test_delta_shrinks_with_the_data_and_is_never_above_a_millionth |
| POST 11: private measurements outside the budget | test_nothing_but_these_fields_can_leave_a_data_owner |
| POST 12: tied weights come apart, or freeze in part | test_tied_weights_stay_tied_in_a_cut |
| the same in distillation | test_distillation_leaves_embeddings_and_head_alone_and_trains_the_rest |
| POST 13: label words of several tokens | test_label_words_that_are_not_one_known_token_are_refused |
| POST 13: classes that share a word | test_label_words_that_become_one_token_are_refused |
| POST 13: BOS or a space taken for the word | test_a_sentencepiece_tokeniser_gives_the_word_with_its_space |
| POST 14: the tokeniser's settings are changed for everyone | test_reading_texts_leaves_the_tokeniser_as_it_was |
| the same in distillation | test_distilling_leaves_the_tokeniser_as_it_was |
| POST 14: a mask or padding token in a text | test_hard_texts_leave_the_template_whole |
| POST 14: padding taken for the end of a text | test_a_tokeniser_without_a_padding_token_pads_all_the_same |
| POST 15: scales of the two terms unknown | test_the_two_terms_can_be_measured_apart_and_add_up |
| POST 16: vocabularies are not compared | test_different_tokenisers_meet_in_the_labels_only |
| the same with a padded head | test_a_padded_head_is_another_vocabulary |
| POST, stage 1: other layers are kept than those chosen | test_a_cut_keeps_the_chosen_layers_and_everything_else |
| POST, stage 3: the prompt is never saved | test_a_campaign_goes_from_the_task_to_a_published_prompt |
| POST: PEFT cannot read a masked model's prompt | test_stock_peft_computes_the_logits_of_the_delivered_files |
| PANDA: distillation fades with the batch's size | test_a_step_is_the_mean_of_its_records_however_they_are_grouped |
| PANDA: the schedule is computed and thrown away | test_the_learning_rate_of_transfer_follows_its_schedule |
| PANDA: padding is learnt from | test_distillation_learns_from_the_same_gradient |
| PANDA: missing weights stay random | test_a_directory_that_is_no_whole_model_is_refused_in_one_line |
| PANDA: a checkpoint of another shape is loaded | test_only_one_finite_float32_matrix_is_a_prompt |
"""

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client.private.dpsgd import NoisyOptimizer, tune
from client.private.noise import NoiseSource
from client.private.records import PrivateRecords
from transfer.distillation.distil import DistilSettings, make
from transfer.distillation.proxy import cut
from transfer.distillation.settings import LEAST_TOKENS
from transfer.models.loading import load
from transfer.models.objectives import transfer_losses
from transfer.post.settings import TransferSettings
from transfer.post.transfer import held_out_losses, transfer
from transfer.privacy import Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning

WORDS = ("film", "plot", "music", "food", "weather", "noise", "train", "walk")
TEXTS = [f"We liked the {one} and the {other}{' so much' * length}." for length, one in enumerate(WORDS)
         for other in WORDS]  # fmt: skip
LABELS = [index % 2 for index in range(len(TEXTS))]
QUICK = TransferSettings(steps=6, batch_size=8, learning_rate=0.05, check_every=3)
P = 4


@pytest.fixture
def prompt(proxy):
    return SoftPrompt(torch.randn(P, proxy.width, generator=torch.Generator().manual_seed(0)), proxy.ref)


@contextmanager
def optimiser_steps():
    """(learning rate, gradient, weights) before every step of any optimiser of one parameter."""
    seen = []

    def note(optimizer, *_):
        (group,) = optimizer.param_groups
        (weights,) = group["params"]
        seen.append((group["lr"], weights.grad.clone(), weights.detach().clone()))

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def tuned(model, task, labels, noise=1.0, steps=5):
    plan = Tuning(Spend(noise, 1.0, steps), clip_norm=1.0, learning_rate=0.02)
    start = model.text_prompt(task.init_text, P)
    return tune(
        model, PrivateRecords(tuple(TEXTS), tuple(labels)), task, start, plan,
        declared_units=len(TEXTS), randomness=NoiseSource(),
    )  # fmt: skip


def test_every_fault_is_answered_by_a_test_that_exists():
    named = re.findall(r"\| (test_\w+) \|$", __doc__, re.MULTILINE)
    assert len(named) == __doc__.count("\n| ") - 1
    files = Path(__file__).parents[1].rglob("test_*.py")
    known = {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert set(named) <= known


def test_a_proxy_cut_from_a_configuration_answers_without_dropout(masked, tiny_task):
    made = cut(masked, (0,)).train()
    assert made.config.hidden_dropout_prob > 0
    proxy = replace(masked, model=made)
    lines = proxy.encoder(tiny_task).encode(TEXTS[:4])
    assert torch.equal(proxy.answer_logits(lines), proxy.answer_logits(lines))


def test_the_head_reads_one_position_a_record(prompt, proxy, target, tiny_task):
    rows, positions = [], []

    def row_count(_module, inputs):
        if inputs[0].ndim == 2:  # not the words of a start
            rows.append(len(inputs[0]))

    for model in (proxy.model, target.model):
        model.get_input_embeddings().register_forward_pre_hook(row_count)
        model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs: positions.append(inputs[0].shape[:-1].numel())
        )
    transfer(prompt, proxy, target, tiny_task, TEXTS, QUICK)
    assert rows == positions


def test_the_tuned_prompt_is_that_of_the_last_step(causal, tiny_task):
    """Any choice among steps would look at private records outside the budget."""
    with optimiser_steps() as seen:
        hopeless = tuned(causal, tiny_task, LABELS, noise=1e3)
    assert len(seen) == 5
    drift = [(weights - seen[0][2]).norm() for _, _, weights in seen]
    assert (hopeless.vectors - seen[0][2]).norm() > 0.5 * max(drift)
    assert not any(torch.equal(hopeless.vectors, weights) for _, _, weights in seen)


def test_private_records_do_not_touch_the_learning_rate(causal, tiny_task):
    rates = []
    for labels in (LABELS, [1] * len(TEXTS)):
        with optimiser_steps() as seen:
            tuned(causal, tiny_task, labels, steps=4)
        rates.append([rate for rate, _, _ in seen])
    assert rates[0] == rates[1]


def test_clipping_does_not_shrink_the_step(causal, tiny_task):
    """Plain SGD would move a clipped prompt by no more than the learning rate times the clipping norm."""
    start = causal.text_prompt(tiny_task.init_text, P).vectors
    vectors = nn.Parameter(start.clone())
    optimizer = NoisyOptimizer(vectors, Tuning(Spend(1.0, 1.0, 1), 1e-3, 0.02), 8, NoiseSource())
    vectors.grad_sample = torch.ones(8, *start.shape)
    optimizer.step()
    assert (vectors.detach() - start).abs().median() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_reading_texts_leaves_the_tokeniser_as_it_was(kind, request, tiny_task):
    tokenizer = request.getfixturevalue(kind).tokenizer
    before = settings_of(tokenizer)
    encoder = request.getfixturevalue(kind).encoder(replace(tiny_task, max_tokens=12))
    encoder.encode(["very long " * 50, "short"])
    assert settings_of(tokenizer) == before


def test_distilling_leaves_the_tokeniser_as_it_was(causal, tmp_path):
    before = settings_of(causal.tokenizer)
    recipe = DistilSettings(steps=0, sequence_tokens=LEAST_TOKENS)
    make(causal, 1, TEXTS, recipe, tmp_path / "proxy")
    assert settings_of(causal.tokenizer) == settings_of(load(tmp_path / "proxy").tokenizer) == before


def settings_of(tokenizer):
    backend = tokenizer.backend_tokenizer
    return (
        tokenizer.truncation_side, tokenizer.padding_side, tokenizer.model_max_length,
        backend.truncation, backend.padding,
    )  # fmt: skip


def test_the_two_terms_can_be_measured_apart_and_add_up(prompt, proxy, target, tiny_task):
    start = {"start": SoftPrompt(prompt.vectors, target.ref)}
    imitate, shift, mixed = (
        held_out_losses(
            start, prompt, proxy, target, tiny_task, TEXTS, replace(QUICK, alpha=alpha)
        )["start"]
        for alpha in (0.0, 1.0, 0.3)
    )  # fmt: skip
    assert imitate > 0
    assert shift > 0
    assert mixed == pytest.approx(0.7 * imitate + 0.3 * shift, rel=1e-4)


def test_a_step_is_the_mean_of_its_records_however_they_are_grouped(prompt, proxy, target, tiny_task):
    long = [f"{text} {'We liked it. ' * 8}" for text in TEXTS]  # more than one physical batch holds
    settings = replace(
        QUICK, steps=1, batch_size=len(long), space="vocabulary", held_out=1e-9, alpha=0.3, temperature=3.0
    )
    rows = []
    hook = target.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: rows.append(inputs[0].tolist()) if torch.is_grad_enabled() else None
    )
    with optimiser_steps() as seen:
        transfer(prompt, proxy, target, tiny_task, long, settings)
    hook.remove()
    assert len(rows) > 1
    learnt = {tuple(token for token in row if token) for part in rows for row in part}
    encoded = zip(proxy.encoder(tiny_task).encode(long), target.encoder(tiny_task).encode(long), strict=True)
    pairs = [(theirs, ours) for theirs, ours in encoded if ours.ids in learnt]
    assert len(pairs) == len(long) - 2
    (_, gradient, start) = seen[0]
    vectors = start.clone().requires_grad_(True)
    theirs, ours = zip(*pairs, strict=True)
    loss = transfer_losses(
        target.logits(target.collate(ours), vectors.expand(len(ours), -1, -1)),
        target.answer_logits(ours), proxy.answer_logits(theirs, prompt), proxy.answer_logits(theirs),
        alpha=settings.alpha, temperature=settings.temperature,
    )  # fmt: skip
    loss.mean().backward()
    torch.testing.assert_close(gradient, vectors.grad, rtol=1e-3, atol=1e-6)


def test_the_learning_rate_of_transfer_follows_its_schedule(prompt, proxy, target, tiny_task):
    with optimiser_steps() as seen:
        transfer(prompt, proxy, target, tiny_task, TEXTS, QUICK)
    rates = [rate for rate, _, _ in seen]
    assert rates[0] == QUICK.learning_rate
    assert rates == sorted(set(rates), reverse=True)
    assert rates[-1] < 0.1 * rates[0]
