import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transfer.models.objectives import (
    answer_loss,
    cosine_distance,
    divergence,
    label_loss,
    transfer_losses,
)

LOGITS = arrays(np.float64, (4, 3, 5), elements=st.floats(-8, 8, width=32))
UNIT = st.floats(0, 1)
TEMPERATURE = st.floats(0.25, 8)


def softmax(logits, temperature):
    raised = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return raised / raised.sum(axis=-1, keepdims=True)


def kl(reference, logits, temperature):
    p, q = softmax(reference, temperature), softmax(logits, temperature)
    return temperature**2 * (p * (np.log(p) - np.log(q))).sum(axis=-1).mean()


@settings(deadline=None, max_examples=100)
@given(LOGITS, UNIT, TEMPERATURE)
def test_the_transfer_loss_is_posts_formula(logits, alpha, temperature):
    prompted, bare, reference_prompted, reference_bare = logits
    imitate = kl(reference_prompted, prompted, temperature)
    shift = kl(reference_prompted - reference_bare, prompted - bare, temperature)
    ours = transfer_losses(*map(torch.from_numpy, logits), alpha=alpha, temperature=temperature).mean()
    assert ours.item() == pytest.approx((1 - alpha) * imitate + alpha * shift, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(LOGITS, TEMPERATURE)
def test_alpha_0_only_imitates_and_alpha_1_only_shifts(logits, temperature):
    prompted, bare, reference_prompted, reference_bare = map(torch.from_numpy, logits)
    only = {
        0.0: divergence(reference_prompted, prompted, temperature),
        1.0: divergence(reference_prompted - reference_bare, prompted - bare, temperature),
    }
    for alpha, expected in only.items():
        ours = transfer_losses(
            prompted, bare, reference_prompted, reference_bare, alpha=alpha, temperature=temperature
        )
        assert ours.mean().item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(LOGITS, TEMPERATURE)
def test_divergence_is_zero_for_equal_answers_and_never_below(logits, temperature):
    one, other = torch.from_numpy(logits[0]), torch.from_numpy(logits[1])
    assert divergence(one, one, temperature).item() == pytest.approx(0, abs=1e-12)
    assert divergence(one, one + 3.0, temperature).item() == pytest.approx(0, abs=1e-12)
    assert divergence(one, other, temperature).item() >= -1e-12


def test_divergence_puts_the_reference_first():
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    forward = divergence(sure, unsure, 1.0).item()
    assert forward == pytest.approx(kl(sure.double().numpy(), unsure.double().numpy(), 1.0), rel=1e-5)
    assert forward != pytest.approx(divergence(unsure, sure, 1.0).item(), rel=0.05)


def test_the_gradient_of_divergence_does_not_fade_with_temperature():
    reference, logits = torch.tensor([[2.0, 0.0, -1.0]]), torch.zeros(1, 3)
    norms = []
    for temperature in (4.0, 8.0):
        ours = logits.clone().requires_grad_(True)
        divergence(reference, ours, temperature).backward()
        norms.append(ours.grad.norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.2)


def test_gradients_reach_the_prompted_answer_alone():
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    constants = [part.clone() for part in logits[1:]]
    prompted = logits[0].clone().requires_grad_(True)
    loss = transfer_losses(prompted, *constants, alpha=0.5, temperature=2.0).mean()
    loss.backward()
    assert prompted.grad.abs().sum() > 0
    assert all(part.grad is None and not part.requires_grad for part in constants)


def test_the_label_loss_is_one_number_a_record():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    losses = label_loss(logits, torch.tensor([0, 0, 1]))
    probabilities = softmax(logits.numpy(), 1.0)[[0, 1, 2], [0, 0, 1]]
    np.testing.assert_allclose(losses.numpy(), -np.log(probabilities), rtol=1e-6)


def test_the_answer_loss_is_the_mean_over_each_records_own_tokens():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    losses = answer_loss(logits, torch.tensor([[1, 2, 0], [4, -1, -1]]))
    each = label_loss(logits, torch.tensor([1, 2, 0, 4]))
    torch.testing.assert_close(losses, torch.stack([each[:3].mean(), each[3]]))


def test_cosine_distance_is_0_along_1_across_and_2_against():
    state = torch.tensor([[3.0, 0.0]])
    for other, distance in (([7.0, 0.0], 0.0), ([0.0, 2.0], 1.0), ([-1.0, 0.0], 2.0)):
        assert cosine_distance(state, torch.tensor([other])).item() == pytest.approx(distance, abs=1e-6)


def test_cosine_distance_is_the_mean_over_rows():
    states = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert cosine_distance(states, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(0.5)
