import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.rounds.aggregation import STRATEGIES, combine
from coordinator.rounds.server_optimizers import NAMES, FedAdam, FedAvgM, ServerOptimizer, optimiser
from transfer.errors import UsageError
from transfer.model_ref import ModelRef
from transfer.prompt import SoftPrompt

PROXY = ModelRef("proxy", "a" * 64)
finite = st.floats(-4, 4, width=32)
rounds = st.lists(st.lists(finite, min_size=2, max_size=2), min_size=1, max_size=6)


def prompt(*values):
    return SoftPrompt(torch.tensor([values], dtype=torch.float32), PROXY)


def run(server, updates, start=(1.0, -1.0)):
    """The prompts of rounds in which every client moves by the round's update."""
    made = [prompt(*start)]
    for update in updates:
        moved = SoftPrompt(made[-1].vectors + torch.tensor([update]), PROXY)
        made.append(server.close({"ada": moved, "ben": moved}, made[-1]).prompt)
    return made


@pytest.mark.parametrize("name", ["default", *STRATEGIES])
def test_a_strategy_without_an_optimiser_goes_on_from_the_average(name):
    clients = {"a": prompt(1, 2), "b": prompt(3, 5), "c": prompt(2, 2)}
    ours, plain = ServerOptimizer(name, {}).close(clients, prompt(0, 0)), combine(clients, prompt(0, 0), name)
    assert torch.equal(ours.prompt.vectors, plain.prompt.vectors)
    assert ours.strategy == plain.strategy


@given(rounds)
@settings(max_examples=30, deadline=None)
def test_fedavgm_without_momentum_at_rate_1_is_fedavg(updates):
    ours = run(ServerOptimizer("fedavgm", {"momentum": 0.0}), updates)
    plain = run(ServerOptimizer("mean", {}), updates)
    assert all(
        torch.allclose(one.vectors, two.vectors, atol=1e-6) for one, two in zip(ours, plain, strict=True)
    )


@given(rounds, st.floats(0.01, 2), st.floats(0, 0.95))
@settings(max_examples=30, deadline=None)
def test_fedavgm_is_pytorchs_momentum_on_the_averages_distance(updates, rate, momentum):
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.SGD([weight], lr=rate, momentum=momentum)
    history = [torch.tensor(update, dtype=torch.float64) for update in updates]
    ours = torch.zeros(2, dtype=torch.float64)
    for index, update in enumerate(history, 1):
        weight.grad = -update
        reference.step()
        ours += FedAvgM(rate, momentum).step(history[:index])
    assert torch.allclose(ours, weight.detach())


def test_fedadam_follows_its_equations():
    first, second = torch.tensor([0.5, -2.0]).double(), torch.tensor([1.0, 0.0]).double()
    adam = FedAdam(learning_rate=0.1, momentum=0.9, second_momentum=0.99, adaptivity=0.01)
    m = 0.9 * 0.1 * first + 0.1 * second
    v = 0.99 * (0.99 * 0.01**2 + 0.01 * first**2) + 0.01 * second**2
    assert torch.allclose(adam.step([first, second]), 0.1 * m / (v.sqrt() + 0.01))


def test_fedadam_moves_every_coordinate_alike_whatever_its_scale():
    step = FedAdam(learning_rate=0.05).step([torch.tensor([10.0, 1.0, 0.5]).double()])
    assert torch.allclose(step, torch.full((3,), 0.05).double(), rtol=0.05)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_a_server_fed_the_closed_rounds_again_goes_on_exactly(name):
    updates = [(0.1, 0.2), (-0.3, 0.4), (0.5, 0.1)]
    whole = run(ServerOptimizer(name, {}), updates)
    restarted = ServerOptimizer(name, {})
    run(restarted, updates[:2])
    assert torch.equal(
        run(restarted, updates[2:], whole[2].vectors[0].tolist())[-1].vectors, whole[3].vectors
    )
    forgetful = run(ServerOptimizer(name, {}), updates[2:], whole[2].vectors[0].tolist())[-1]
    assert not torch.equal(forgetful.vectors, whole[3].vectors)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_a_server_optimiser_averages_as_robustly_as_the_default(name):
    honest = {f"c{index}": prompt(1 + index / 10, 1) for index in range(5)}
    ours = ServerOptimizer(name, {}).close(honest, prompt(0, 0))
    attacked = ServerOptimizer(name, {}).close({**honest, "giant": prompt(1e30, 1e30)}, prompt(0, 0))
    assert ours.strategy == f"{name} of trimmed_mean"
    assert list(attacked.dropped) == ["giant"]
    assert torch.equal(ours.prompt.vectors, attacked.prompt.vectors)


@pytest.mark.parametrize("name", NAMES)
def test_every_named_strategy_stands_without_parameters(name):
    assert (optimiser(name, {}) is None) == (name not in {"fedavgm", "fedadam"})


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("krum", {}, "strategy 'krum' is none of default, mean, trimmed_mean, median, fedavgm, fedadam"),
        ("mean", {"momentum": 0.9}, "'mean' has no parameter 'momentum'; it has none"),
        ("fedavgm", {"tau": 1.0}, "'fedavgm' has no parameter 'tau'; it has learning_rate, momentum"),
        ("fedavgm", {"learning_rate": 0.0}, "learning_rate 0.0 must be finite and > 0"),
        ("fedadam", {"adaptivity": float("inf")}, "adaptivity inf"),
        ("fedadam", {"second_momentum": -0.1}, r"second_momentum -0.1 must be in \[0, 1\)"),
    ],
)
def test_an_unknown_name_or_parameter_is_one_clear_line(name, parameters, words):
    with pytest.raises(UsageError, match=words) as caught:
        optimiser(name, parameters)
    assert "\n" not in str(caught.value)
