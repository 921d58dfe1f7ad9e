"""A reply is admitted if an honest client can have come this far."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.private.dpsgd import NoisyOptimizer, Tuned
from client.private.noise import NoiseSource
from coordinator.rounds.aggregation import STRATEGIES, combine
from coordinator.rounds.replies import admit
from tests.coordinator.rounds.updates import START, prompt, prompts
from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend
from transfer.protocol.roster import Roster
from transfer.protocol.rounds import Release, RoundRequest, Tuning
from transfer.subspace import Subspace
from transfer.tasks import Label, Task

TASK = Task("mood", "{text} It was {answer}.", (Label("no", ("bad",)), Label("yes", ("good",))), "Mood.")


REQUEST = RoundRequest(
    "campaigns/c/rounds/2",
    3,
    "ada",
    b"n" * 16,
    TASK,
    Tuning(Spend(1.0, 0.5, 10), clip_norm=1.0, learning_rate=0.1),
    START,
    3,
    Roster(()),
)
SGD = replace(REQUEST, tuning=replace(REQUEST.tuning, optimizer="sgd"))
AXES = Subspace(torch.eye(6).reshape(6, 2, 3)[:2].contiguous())


def release(**changes):
    value = Release(
        REQUEST.round,
        REQUEST.client,
        REQUEST.nonce,
        prompt(torch.full((2, 3), 0.1)),
        REQUEST.tuning.spend,
        Guarantee(1.0, 1e-6),
    )
    return replace(value, **changes)


def test_an_update_stays_in_the_subspace_it_was_asked_in():
    request = replace(REQUEST, subspace=AXES)
    inside, outside = torch.zeros(2, 3), torch.zeros(2, 3)
    inside[0, :2] = 0.1
    outside[0] = 0.1
    assert torch.equal(admit(release(prompt=prompt(inside)), request).vectors, inside)
    with pytest.raises(VerificationError, match=r"update of ada leaves the subspace by 0\.1"):
        admit(release(prompt=prompt(outside)), request)


def test_an_exact_answer_passes_the_gate_unchanged():
    assert torch.equal(admit(release(), REQUEST).vectors, torch.full((2, 3), 0.1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": "campaigns/c/rounds/1"}, "another round"),
        ({"client": "eve"}, "another client"),
        ({"nonce": b"m" * 16}, "another nonce"),
        ({"prompt": prompt(torch.zeros(2, 3), ModelRef("proxy", "b" * 64))}, "asked for aaaa"),
        ({"prompt": prompt(torch.zeros(3, 3))}, r"shape \[3, 3\]"),
        ({"prompt": prompt(torch.zeros(2, 4))}, r"shape \[2, 4\]"),
        ({"spend": Spend(0.5, 0.5, 10)}, "spent"),
        ({"spend": Spend(1.0, 0.5, 11)}, "spent"),
        ({"spend": Spend(1.0, 0.5, 10, "user")}, "spent .*unit='user'.* asked for .*unit='record'"),
        ({"prompt": prompt(torch.full((2, 3), 1e38))}, "no honest one"),
    ],
)
def test_the_gate_refuses_whatever_was_not_asked_for(changes, words):
    with pytest.raises(VerificationError, match=words):
        admit(release(**changes), REQUEST)


@pytest.mark.parametrize("sigma", [1.0, 50.0])
@pytest.mark.parametrize("units", [1, 7])
@pytest.mark.parametrize("axes", [None, AXES])
def test_an_honest_update_by_sgd_passes_at_its_longest(sigma, units, axes):
    """All units take part in all steps at full size and pull one way, the noise is real."""
    tuning = replace(SGD.tuning, spend=Spend(sigma, 0.5, 10))
    tuned = Tuned(START.vectors, axes)
    pull = torch.zeros_like(tuned.parameter)
    pull.view(-1)[0] = 9.0
    optimizer = NoisyOptimizer(tuned.parameter, tuning, 0.5 * units, NoiseSource())
    for _ in range(10):
        tuned.parameter.grad_sample = pull.expand(units, *pull.shape)
        optimizer.step()
        optimizer.zero_grad()
    answer = release(prompt=prompt(tuned.vectors()), spend=tuning.spend)
    assert answer.prompt.vectors.any()
    admit(answer, replace(SGD, tuning=tuning, subspace=axes))


@pytest.mark.parametrize(
    ("changes", "axes", "longest"),
    [
        ({}, None, 35.5),  # 10 · 0.1 · 1 / 0.5 · (10 + 1 · √(10 · 6))
        ({}, AXES, 28.9),  # two numbers are noised, not six
        ({"optimizer": "adam"}, None, 24.5),  # 10 · 0.1 · 10 · √6
        ({"optimizer": "adam"}, AXES, 14.1),
        ({"clip_norm": 0.01}, None, 0.355),
        ({"learning_rate": 1.0}, None, 355),
        ({"spend": Spend(4.0, 0.5, 10)}, None, 82.0),
        ({"spend": Spend(1.0, 1.0, 10)}, None, 17.7),
        ({"spend": Spend(1.0, 0.5, 40)}, None, 111),
    ],
)
def test_the_gate_refuses_an_update_that_is_longer_than_an_honest_one(changes, axes, longest):
    request = replace(SGD, tuning=replace(SGD.tuning, **changes), subspace=axes)
    far = torch.zeros(2, 3)
    far[0, 0] = longest
    answer = release(prompt=prompt(0.99 * far), spend=request.tuning.spend)
    admit(answer, request)
    with pytest.raises(VerificationError, match=r"update of ada has norm .*, no honest one exceeds"):
        admit(replace(answer, prompt=prompt(1.01 * far)), request)


def test_without_noise_sgd_is_not_clipped_and_no_update_too_long():
    request = replace(SGD, tuning=replace(SGD.tuning, spend=Spend(0.0, 0.5, 10)))
    admit(release(prompt=prompt(torch.full((2, 3), 1e6)), spend=request.tuning.spend), request)


@given(prompts.filter(lambda clients: len(clients) >= 3), st.sampled_from([*STRATEGIES, "default"]))
@settings(max_examples=60, deadline=None)
def test_a_huge_update_leaves_the_aggregate_bit_identical(clients, strategy):
    honest = {name: prompt(value.vectors.clamp(1, 2)) for name, value in clients.items()}
    attacked = combine({**honest, "a-giant": prompt(torch.full((2, 3), 1e38))}, START, strategy)
    assert "a-giant" in attacked.dropped
    assert torch.equal(attacked.prompt.vectors, combine(honest, START, strategy).prompt.vectors)
