"""Several labels a text: each is a yes or no of its own, when tuned, when transferred and when counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import binary_cross_entropy_with_logits

from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.objectives import divergences, labels_loss, transfer_losses
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.models.public_directions import public_subspace
from transfer.models.self_check import require_tunable
from transfer.placement.settings import HERE
from transfer.post.baselines import logit_arithmetic
from transfer.post.evaluation import accuracy, class_logits, decided
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer
from transfer.post.twins import Answers
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task
from transfer.tokens.readout import Head, goals

LABELS = (Label("praise", (), 2.0), Label("blame", (), 0.5), Label("sport", ()))
TASK = Task(
    "topics", "Text: {text}", LABELS, "A sentence about a review", 32, label_reading="head", many=True
)
TEXTS = ("The film was great.", "A terrible plot, a bad ending and a boring evening.", "good", "It was fun.")
TRUTH = ((0,), (1, 2), (), (0, 1, 2))
PUBLIC = [
    f"{who} liked the {what}." for who in ("We", "Nobody", "A team", "The bank") for what in "abcdefghij"
]
LOGITS = arrays(np.float64, (4, 3, 5), elements=st.floats(-8, 8, width=32))


@pytest.fixture(params=["tiny_causal", "tiny_masked", "tiny_encoder"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return load(request.getfixturevalue(request.param))


def prompt_and_head(model: LanguageModel, seed: int = 2) -> SoftPrompt:
    rows = torch.randn(5, model.width, generator=torch.Generator().manual_seed(seed))
    return SoftPrompt(torch.cat([rows[:2], 3 * rows[2:]]), model.ref)


def data_of(model: LanguageModel, texts: tuple[str, ...] = TEXTS) -> LabelledLines:
    encoder = model.encoder(TASK)
    truth = goals(TRUTH, encoder.words)[: len(texts)]
    return LabelledLines(encoder.encode(texts), truth, encoder.words, Passes(160, TASK.max_tokens))


def test_truth_is_a_table_where_a_text_may_have_several_labels_and_an_index_where_it_has_one() -> None:
    table = goals(TRUTH, Head(3, (1.0, 1.0, 1.0)))
    assert table.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert torch.equal(goals((2, 0), Head(3)), torch.tensor([2, 0]))


def test_the_loss_is_the_weighted_sum_of_each_labels_own_cross_entropy() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 30.0, -30.0]])
    truth = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    chance = 1 / (1 + np.exp(-logits))
    each = -(truth * np.log(chance) + (1 - truth) * np.log1p(-np.minimum(chance, 1 - 1e-16)))
    ours = labels_loss(torch.from_numpy(logits), torch.from_numpy(truth), (2.0, 0.5, 1.0))
    np.testing.assert_allclose(ours.numpy(), (each * [2.0, 0.5, 1.0]).sum(axis=1), rtol=1e-6)


def kl(reference: np.ndarray, logits: np.ndarray, temperature: float) -> np.ndarray:
    """T²·Σ_c KL of two coins each, for rows [N, C]."""
    p, q = (1 / (1 + np.exp(-values / temperature)) for values in (reference, logits))
    coins = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * coins.sum(axis=-1)


@settings(deadline=None, max_examples=50)
@given(LOGITS, st.floats(0, 1), st.floats(0.5, 8))
def test_the_transfer_loss_is_posts_formula_for_each_label_alone(
    logits: np.ndarray, alpha: float, temperature: float
) -> None:
    prompted, bare, reference_prompted, reference_bare = logits
    imitate = kl(reference_prompted, prompted, temperature)
    shift = kl(reference_prompted - reference_bare, prompted - bare, temperature)
    ours = transfer_losses(*map(torch.from_numpy, logits), alpha=alpha, temperature=temperature, many=True)
    np.testing.assert_allclose(ours.numpy(), (1 - alpha) * imitate + alpha * shift, rtol=1e-6, atol=1e-9)
    added = kl(bare + reference_prompted - reference_bare, prompted, temperature)  # arithmetic in each class
    ours = transfer_losses(
        *map(torch.from_numpy, logits), alpha=alpha, temperature=temperature, summed=True, many=True
    )
    np.testing.assert_allclose(ours.numpy(), (1 - alpha) * imitate + alpha * added, rtol=1e-6, atol=1e-9)


def looped(model: LanguageModel, data: LabelledLines, index: int, vectors: torch.Tensor) -> torch.Tensor:
    """The oracle: one record alone, its loss spelt out, one backward pass through the shared prompt."""
    prompt = vectors.detach().clone().requires_grad_(True)
    logits = model.logits(model.collate([data.lines[index]]), prompt.unsqueeze(0), data.words)
    weights = torch.tensor([label.weight for label in LABELS])
    loss = binary_cross_entropy_with_logits(logits[0], data.labels[index], reduction="none") @ weights
    (gradient,) = torch.autograd.grad(loss, prompt)
    return gradient


def test_each_gradient_is_one_records_own(model: LanguageModel) -> None:
    data, vectors = data_of(model), prompt_and_head(model).vectors
    ours = per_record_gradients(model, data, range(len(TEXTS)), vectors)
    reference = torch.stack([looped(model, data, index, vectors) for index in range(len(TEXTS))])
    assert (ours - reference).abs().max() <= 1e-5 * reference.abs().max()
    assert reference[:, 2:].flatten(1).norm(dim=1).max() <= sum(label.weight**2 for label in LABELS) ** 0.5
    for index in range(len(TEXTS)):  # alone, the same bits
        assert torch.equal(per_record_gradients(model, data, [index], vectors)[0], ours[index])


def test_a_proxy_is_tunable_and_public_directions_reach_every_row_of_the_head(model: LanguageModel) -> None:
    start = model.text_prompt(TASK.init_text, 2).longer(3)
    require_tunable(model, TASK, start)
    axes = public_subspace(model, TASK, PUBLIC, start, 6, 0)
    assert axes.directions.shape == (6, 5, model.width)
    assert (axes.directions[:, 2:].abs().amax(dim=(0, 2)) > 0.05).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_transfer_carries_over_which_labels_apply(
    tiny_causal: Path, tiny_masked: Path, alpha: float
) -> None:
    proxy, target = load(tiny_causal), load(tiny_masked)
    both = prompt_and_head(proxy)
    change = TransferSettings(
        alpha=alpha, steps=60, batch_size=8, learning_rate=0.1, start="text", check_every=10
    )
    done = transfer(both, proxy, target, TASK, PUBLIC, change)
    assert done.held_out_loss < 0.5 * done.start_loss
    # the loss is that of each label alone: softmax over labels would not know how many apply
    ours = class_logits(proxy, TASK, PUBLIC, both)
    theirs = class_logits(target, TASK, PUBLIC, done.prompt)
    at = torch.tensor(_held_out(len(PUBLIC)))
    assert done.held_out_loss == pytest.approx(
        divergences(ours[at], theirs[at], 2.0, many=True).mean().item(), rel=1e-3
    )
    truth = decided(TASK, ours)
    assert accuracy(target, TASK, PUBLIC, truth, done.prompt).exact > 0.6
    arithmetic = logit_arithmetic(both, proxy, target, TASK, PUBLIC)
    assert torch.equal(arithmetic, ours)  # without a head no model has an opinion


def _held_out(count: int) -> list[int]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[: round(0.2 * count)].tolist()


def test_a_label_applies_above_the_declared_threshold_and_not_at_it() -> None:
    logits = torch.tensor([[0.0, 2.0, -2.0], [-1.2, -1.3, -0.9]])
    assert decided(TASK, logits) == [(1,), ()]
    assert decided(replace(TASK, threshold=0.25), logits) == [(0, 1), (2,)]
    assert decided(replace(TASK, many=False, labels=tuple(map(Label, "abc", [()] * 3))), logits) == [1, 2]


def test_a_twin_agrees_where_all_labels_do(tiny_causal: Path) -> None:
    model, twin = load(tiny_causal), load(tiny_causal, placement=HERE.twin("nf4"))
    both = prompt_and_head(model)
    found = Answers.of(model, TASK, PUBLIC, both).compared(twin)
    ours, theirs = (class_logits(each, TASK, PUBLIC, both) for each in (model, twin))
    same = [one == other for one, other in zip(decided(TASK, ours), decided(TASK, theirs), strict=True)]
    assert found.agreement == sum(same) / len(same)
    assert found.kl == pytest.approx(kl(ours.double().numpy(), theirs.double().numpy(), 1.0).mean(), rel=1e-3)
    assert found.kl > 0
