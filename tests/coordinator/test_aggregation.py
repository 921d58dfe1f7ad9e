import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.noise import NoiseSource
from client.tuning import NoisyOptimizer, Tuned
from coordinator.aggregation import STRATEGIES, combine
from coordinator.replies import admit
from transfer.errors import UsageError, VerificationError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee, Spend
from transfer.prompt import SoftPrompt
from transfer.roster import Roster
from transfer.rounds import Release, RoundRequest, Tuning
from transfer.subspace import Subspace
from transfer.tasks import Label, Task

torch.set_num_threads(1)

PROXY = ModelRef("proxy", "a" * 64)
TASK = Task("mood", "{text} It was {answer}.", (Label("no", ("bad",)), Label("yes", ("good",))), "Mood.")
START = SoftPrompt(torch.zeros(2, 3), PROXY)
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


def prompt(values, model=PROXY):
    return SoftPrompt(torch.as_tensor(values, dtype=torch.float32), model)


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


prompts = st.lists(
    st.lists(st.floats(-4, 4, width=32), min_size=6, max_size=6).map(
        lambda values: prompt(torch.tensor(values).reshape(2, 3))
    ),
    min_size=1,
    max_size=9,
).map(lambda values: {f"client-{index}": value for index, value in enumerate(values)})


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


@given(prompts, st.randoms(use_true_random=False), st.sampled_from([*STRATEGIES, "default"]))
@settings(max_examples=60, deadline=None)
def test_the_order_of_replies_has_no_influence(clients, order, strategy):
    shuffled = list(clients.items())
    order.shuffle(shuffled)
    one, other = combine(clients, START, strategy), combine(dict(shuffled), START, strategy)
    assert torch.equal(one.prompt.vectors, other.prompt.vectors)
    assert one.counted == other.counted


@given(prompts.filter(lambda clients: len(clients) >= 3), st.sampled_from([*STRATEGIES, "default"]))
@settings(max_examples=60, deadline=None)
def test_a_huge_update_leaves_the_aggregate_bit_identical(clients, strategy):
    honest = {name: prompt(value.vectors.clamp(1, 2)) for name, value in clients.items()}
    attacked = combine({**honest, "a-giant": prompt(torch.full((2, 3), 1e38))}, START, strategy)
    assert "a-giant" in attacked.dropped
    assert torch.equal(attacked.prompt.vectors, combine(honest, START, strategy).prompt.vectors)


@given(prompts, st.sampled_from(list(STRATEGIES)))
@settings(max_examples=60, deadline=None)
def test_every_strategy_stays_between_the_smallest_and_the_largest_client(clients, strategy):
    aggregate = combine(clients, START, strategy)
    stack = torch.stack([clients[name].vectors for name in aggregate.counted])
    assert (aggregate.prompt.vectors <= stack.amax(0) + 1e-6).all()
    assert (aggregate.prompt.vectors >= stack.amin(0) - 1e-6).all()


@pytest.mark.parametrize(
    ("strategy", "values", "expected"),
    [
        ("mean", [1, 2, 6], 3.0),
        ("median", [1, 2, 6], 2.0),
        ("median", [1, 2, 4, 6], 3.0),
        ("trimmed_mean", [1, 2, 4, 6, 8], 4.0),
        ("trimmed_mean", [1, 2, 6], 3.0),  # a fifth of three is nobody
    ],
)
def test_a_named_strategy_is_what_its_name_says(strategy, values, expected):
    clients = {f"c{i}": prompt(torch.full((2, 3), float(value))) for i, value in enumerate(values)}
    aggregate = combine(clients, prompt(torch.full((2, 3), -100.0)), strategy)  # so far that none is left out
    assert torch.equal(aggregate.prompt.vectors, torch.full((2, 3), expected))


@pytest.mark.promise("cohort")
def test_one_hot_updates_show_that_every_client_counts_exactly_once(measured):
    clients = {f"c{i}": prompt(torch.eye(6)[i].reshape(2, 3)) for i in range(3)}
    total = combine(clients, START).prompt.vectors.flatten() * 3
    for counted in total[:3]:
        measured(times_each_client_counts=counted)
    assert torch.allclose(total, torch.tensor([1.0, 1, 1, 0, 0, 0]))


def test_the_default_is_the_mean_for_four_clients_and_the_trimmed_mean_for_five():
    clients = {f"c{i}": prompt(torch.full((2, 3), 1.0 + i / 10)) for i in range(5)}
    assert combine(clients, START).strategy == "trimmed_mean"
    del clients["c4"]
    assert combine(clients, START).strategy == "mean"


def test_two_clients_are_never_set_against_each_other():
    clients = {"a": prompt(torch.zeros(2, 3)), "b": prompt(torch.ones(2, 3))}
    assert combine(clients, START).dropped == {}


def test_no_clients_and_unknown_strategies_are_usage_errors():
    with pytest.raises(UsageError, match="no prompts"):
        combine({}, START)
    with pytest.raises(UsageError, match="krum"):
        combine({"a": START}, START, "krum")


SIGNAL = torch.full((20, 768), 1 / math.sqrt(20 * 768))


def updates(ratio, seed):
    """Ten honest updates of signal norm 1 and noise norm `ratio` each."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(10, 20, 768, generator=generator) * ratio / math.sqrt(SIGNAL.numel())
    return SIGNAL + noise


def times_hundred(honest):
    return -100 * honest.mean(0)


def flipped(honest):
    return -SIGNAL


def just_below_the_gate(honest):
    return -2.9 * honest[0].norm() * SIGNAL


def little_is_enough(honest):
    return honest.mean(0) - honest.std(0)


def error(vectors, strategy):
    start = SoftPrompt(torch.zeros(20, 768), PROXY)
    clients = {f"c{i}": SoftPrompt(value.clone(), PROXY) for i, value in enumerate(vectors)}
    if strategy == "plain mean":
        return float((vectors.mean(0) - SIGNAL).norm())
    return float((combine(clients, start, strategy).prompt.vectors - SIGNAL).norm())


@pytest.mark.parametrize("attack", [times_hundred, flipped, just_below_the_gate, little_is_enough])
@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_two_attackers_among_ten_cost_at_most_seven_tenths_of_the_error(attack, ratio):
    honest = updates(ratio, seed=random.Random(f"{attack.__name__}{ratio}").randrange(10_000))
    attacked = honest.clone()
    attacked[8:] = attack(honest[:8])
    assert error(attacked, "default") <= 1.7 * error(honest, "default")


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_plain_mean_fails_where_the_default_holds(ratio):
    honest = updates(ratio, seed=1)
    attacked = honest.clone()
    attacked[8:] = times_hundred(honest[:8])
    assert error(attacked, "plain mean") > 10 * error(honest, "plain mean")
