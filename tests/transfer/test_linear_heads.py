"""A linear head over pooled states: prompt and head are one value, tuned, carried and transferred together."""

from dataclasses import replace

import pytest
import torch

from transfer.errors import ModelError, TaskError
from transfer.models.public_directions import public_subspace
from transfer.panda.scores import alignment, answer_states
from transfer.post.evaluation import accuracy, class_logits
from transfer.post.settings import TransferSettings
from transfer.post.transfer import initial_prompt, transfer
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task
from transfer.tokens.readout import Head, label_logits

LABELS = (Label("positive", ()), Label("negative", ()), Label("neither", ()))
TASK = Task("reviews", "Review: {text}", LABELS, "A sentence about a review", 32, label_reading="head")
TEXTS = ["The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good"]
ENDS = (
    "and bad",
    "the music",
    "of noise",
    "it was fun",
    "a walk",
    "the train",
    "so slow",
    "and young",
    "good",
)
PUBLIC = [f"{start} {end}" for start in TEXTS for end in ENDS]


def prompt_and_head(model, seed=2):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(5, model.width, generator=generator)
    return SoftPrompt(torch.cat([rows[:2], 3 * rows[2:]]), model.ref)


@torch.no_grad()
def test_the_head_reads_the_mean_state_of_a_lines_own_tokens(model):
    both = prompt_and_head(model)
    found = class_logits(model, TASK, TEXTS, both)
    for line, logits in zip(model.encoder(TASK).encode(TEXTS), found, strict=True):
        embeds = torch.cat([both.vectors[:2], model.embedding[list(line.ids)]]).unsqueeze(0)
        states = model.model(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0, 2:]
        pooled = states.mean(dim=0) / states.mean(dim=0).norm()
        torch.testing.assert_close(logits, both.vectors[2:] @ pooled, atol=1e-5, rtol=0)


def test_no_blank_stands_in_a_line_that_a_head_reads(masked):
    (line,) = masked.encoder(TASK).encode(["The film [MASK] was great."])
    assert masked.tokenizer.mask_token_id not in line.ids


def test_without_a_head_nothing_is_known_of_the_classes(model):
    assert torch.equal(class_logits(model, TASK, TEXTS, None), torch.zeros(3, 3))
    start = model.text_prompt(TASK.init_text, 4).longer(TASK.head_rows)
    assert start.vectors.shape == (7, model.width)
    assert torch.equal(class_logits(model, TASK, TEXTS, start), torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("proxy_kind", "target_kind"),
    [
        ("causal", "masked"),
        ("encoder", "backbone"),
        pytest.param("causal", "wide", marks=pytest.mark.slow),
        pytest.param("backbone", "encoder", marks=pytest.mark.slow),
        pytest.param("masked", "encoder", marks=pytest.mark.slow),
        pytest.param("encoder", "wide", marks=pytest.mark.slow),
    ],
)
def test_prompt_and_head_are_learnt_together_on_a_target_of_another_tokeniser_width_or_kind(
    proxy_kind, target_kind, request
):
    proxy, target = (request.getfixturevalue(kind) for kind in (proxy_kind, target_kind))
    both = prompt_and_head(proxy)
    settings = TransferSettings(steps=40, batch_size=8, learning_rate=0.1, start="text", check_every=10)
    assert torch.equal(
        initial_prompt(both, proxy, target, TASK, TransferSettings(start="text")).vectors[2:],
        torch.zeros(3, target.width),
    )
    done = transfer(both, proxy, target, TASK, PUBLIC, settings)
    assert done.prompt.vectors.shape == (5, target.width)
    assert done.held_out_loss < 0.7 * done.start_loss
    labels = class_logits(proxy, TASK, PUBLIC, both).argmax(dim=1).tolist()
    assert accuracy(target, TASK, PUBLIC, labels, done.prompt).micro > 0.5


def test_directions_of_public_text_hold_most_of_a_strangers_gradient_of_prompt_and_head(headless):
    both, encoder = prompt_and_head(headless), headless.encoder(TASK)
    axes = public_subspace(headless, TASK, PUBLIC, both, 12, 0)
    assert axes.directions.shape == (12, 5, 32)
    rows = both.vectors.clone().unsqueeze(0).requires_grad_(True)
    batch = headless.collate(encoder.encode(["We liked the weather, nobody liked the train."]))
    (gradient,) = torch.autograd.grad(headless.logits(batch, rows, encoder.words).log_softmax(1)[0, 1], rows)
    assert axes.coordinates(gradient).norm() > 0.8 * gradient.norm()


def test_the_library_tells_how_alike_prompts_are_without_logits_of_words(encoder):
    both = prompt_and_head(encoder)
    lines = encoder.encoder(TASK).encode(PUBLIC)
    effect = answer_states(encoder, lines, SoftPrompt(both.vectors[:2], encoder.ref))
    effect -= answer_states(encoder, lines, None)
    assert alignment(effect, effect) == pytest.approx(1.0)


def test_a_head_reads_no_logits():
    with pytest.raises(ModelError, match="a head reads pooled states"):
        label_logits(torch.zeros(2, 9), Head(3))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "{text} It was {answer}"}, "needs {text} once, and no {answer}"),
        ({"template": "Review"}, "needs {text} once"),
        ({"labels": (*LABELS, Label("more", ("word",)))}, "'more' has label words"),
        ({"labels": LABELS[:1]}, "two or more"),
        ({"labels": (), "kind": "text"}, "any head must go"),
        ({"label_reading": "single"}, "needs {text} and then {answer}"),
    ],
)
def test_an_impossible_task_of_a_head_names_the_rule_it_breaks(change, says):
    with pytest.raises(TaskError) as caught:
        replace(TASK, **change)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_task_file_of_a_head_has_labels_without_words(tmp_path):
    path = tmp_path / "task.toml"
    path.write_text(
        'name = "reviews"\ntemplate = "Review: {text}"\ninit_text = "A sentence about a review"\n'
        'max_tokens = 32\nlabel_reading = "head"\n[labels]\npositive = []\nnegative = []\nneither = []\n'
    )
    assert Task.from_toml(path) == TASK
    assert (TASK.head_rows, replace(TASK, labels=LABELS[:2]).head_rows) == (3, 2)
