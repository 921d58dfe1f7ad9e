import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.rounds.aggregation import STRATEGIES, combine
from tests.coordinator.rounds.updates import PROXY, START, prompt, prompts
from transfer.errors import UsageError
from transfer.prompt import SoftPrompt

torch.set_num_threads(1)


@given(prompts, st.randoms(use_true_random=False), st.sampled_from([*STRATEGIES, "default"]))
@settings(max_examples=60, deadline=None)
def test_the_order_of_replies_has_no_influence(clients, order, strategy):
    shuffled = list(clients.items())
    order.shuffle(shuffled)
    one, other = combine(clients, START, strategy), combine(dict(shuffled), START, strategy)
    assert torch.equal(one.prompt.vectors, other.prompt.vectors)
    assert one.counted == other.counted


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
