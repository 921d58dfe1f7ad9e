"""Where the unit of privacy is the user: one share a user, clipped once, however many records there are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from client.private.dpsgd import NoisyOptimizer, Tuned, UserMeans, noisy_step, noisy_step_of_users, tune
from client.private.noise import GRID_BITS, clip_to_grid
from client.private.records import PrivateRecords
from tests.promises import Measured
from transfer.errors import DataError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.privacy import Spend, Unit
from transfer.protocol.rounds import Tuning
from transfer.subspace import Subspace
from transfer.tasks import Task

TEXTS = (
    "The film was great.",
    "A terrible plot, a bad ending and a boring evening.",
    "We liked it",
    "Nobody liked the weather, the noise or the slow train and it was awful.",
    "good",
    "The match was won in the last minute by a young team.",
)
LABELS = (0, 1, 0, 1, 0, 1)
USERS = ("ann", "ben", "ann", "cleo", "ann", "ben")
BY_USER = [[0, 2, 4], [1, 5], [3]]
P, CLIP, SIGMA = 4, 0.05, 1.0
GRID = SIGMA * CLIP / 2**GRID_BITS


class Seeded:
    """Randomness that can be repeated, and remembers how many were sampled from, at which rate."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.sampled: list[tuple[int, float]] = []

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return self.generator.normal(0, 2**GRID_BITS, shape).round().astype(np.int64)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        self.sampled.append((n, rate))
        return self.generator.random(n) < rate


class Silent(Seeded):
    """The noise is zero."""

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return np.zeros(shape, dtype=np.int64)


@pytest.fixture(params=["tiny_causal", "tiny_masked"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return load(request.getfixturevalue(request.param))


@pytest.fixture
def causal(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal)


def tuning(unit: Unit = "user", rate: float = 1.0, steps: int = 1, sigma: float = SIGMA) -> Tuning:
    return Tuning(Spend(sigma, rate, steps, unit), clip_norm=CLIP, learning_rate=0.01)


def encoded(model: LanguageModel, task: Task, copies: int = 1) -> LabelledLines:
    encoder = model.encoder(task)
    return LabelledLines(encoder.encode(TEXTS * copies), torch.tensor(LABELS * copies), encoder.words)


def subspace(dimensions: int = 3) -> Subspace:
    draw = torch.randn(P * 32, dimensions, generator=torch.Generator().manual_seed(2))
    return Subspace(torch.linalg.qr(draw).Q.T.reshape(dimensions, P, 32).contiguous())


def tuned_by(model, task, users, asked, randomness, directions=None):
    """A tuned prompt's vectors."""
    records = PrivateRecords(TEXTS, LABELS, users=users)
    start = model.text_prompt(task.init_text, P)
    return tune(
        model, records, task, start, asked, declared_units=6, randomness=randomness, subspace=directions
    ).vectors


def sums(model, task, users, data, tokens=1536, directions=None):
    """The clipped sum [P, H] (or [D]) of one step, in whole grid steps."""
    tuned = Tuned(model.text_prompt(task.init_text, P).vectors, directions)
    optimizer = NoisyOptimizer(tuned.parameter, tuning(), 1.0, Silent())
    seen: list[torch.Tensor] = []
    optimizer.attach_step_hook(lambda _: seen.append(tuned.parameter.summed_grad.clone()))
    noisy_step_of_users(model, data, users, tuned, optimizer, tokens)
    (total,) = seen
    assert total.dtype == torch.int64
    return total


def share(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The oracle: a user's records alone, one after the other."""
    mean = sum((gradient.double() for gradient in gradients), torch.zeros(())) / len(gradients)
    return mean * min(1.0, CLIP / mean.norm().item())


@pytest.mark.promise("users")
@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 10, 100]), st.floats(1e-3, 1e3))
def test_adding_a_user_moves_the_sum_by_at_most_the_clipping_norm_and_nobody_elses_share(
    measured, data, count, size
):
    """Exactly, in integers: gradients of any size, in any physical batches, beside any other users."""
    others = data.draw(st.lists(st.integers(1, 5), max_size=4))
    ends = np.cumsum([*others, count]).tolist()
    users = [list(range(a, b)) for a, b in zip([0, *ends], ends, strict=False)]
    seed = data.draw(st.integers(0, 2**32 - 1))
    gradients = size * torch.randn(ends[-1], 2, 3, generator=torch.Generator().manual_seed(seed))
    if data.draw(st.booleans()):
        gradients[-1] = data.draw(st.sampled_from([float("nan"), float("inf"), 1e30]))

    def total(users: list[list[int]]) -> torch.Tensor:
        means = UserMeans(users, torch.zeros(2, 3))
        records = means.records
        while records:
            cut = data.draw(st.integers(1, len(records)))
            means.add(records[:cut], gradients[records[:cut]])
            records = records[cut:]
        return clip_to_grid(means.means(), CLIP, GRID)

    moved = total(users) - total(users[:-1])
    length = sum(int(step) ** 2 for step in moved.flatten())
    measured(moved_over_C=length**0.5 / (CLIP / GRID))
    assert length <= int((CLIP / GRID) ** 2)
    assert torch.equal(moved, total(users[-1:]))


@pytest.mark.promise("users")
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_user_of_any_number_of_records_moves_a_real_step_by_at_most_the_clipping_norm(
    causal: LanguageModel, tiny_task: Task, count: int, measured: Measured
) -> None:
    """A record to a physical batch, so that nobody's gradient is rounded by another's padding."""
    data = encoded(causal, tiny_task, copies=18)
    others, added = [[0, 1], [2]], list(range(6, 6 + count))
    moved = sums(causal, tiny_task, [*others, added], data, 1) - sums(causal, tiny_task, others, data, 1)
    length = sum(int(step) ** 2 for step in moved.flatten())
    measured(moved_over_C=length**0.5 / (CLIP / GRID))
    assert length <= int((CLIP / GRID) ** 2)
    assert length >= 0.99 * (CLIP / GRID) ** 2, "the gradients are long enough for the bound to be felt"


def test_a_users_share_is_the_clipped_mean_of_their_records(model: LanguageModel, tiny_task: Task) -> None:
    data = encoded(model, tiny_task)
    gradients = per_record_gradients(model, data, range(6), model.text_prompt(tiny_task.init_text, P).vectors)
    expected = sum(share([gradients[index] for index in records]) for records in BY_USER)
    total = sums(model, tiny_task, BY_USER, data).double() * GRID
    assert (total - expected).abs().max() <= 1e-5 * CLIP
    apart = clip_to_grid(gradients, CLIP, GRID).double() * GRID
    assert (total - apart).abs().max() > 0.01 * CLIP, "records counted as units would give another sum"


def test_the_size_of_the_physical_batch_changes_nothing(model: LanguageModel, tiny_task: Task) -> None:
    """In double precision: a user's records lie in one batch, in several, and beside those of others."""
    model.model.double()
    data = encoded(model, tiny_task)
    start = model.text_prompt(tiny_task.init_text, P).vectors.double()
    prompts = []
    for tokens in (10_000, 60, 1):
        tuned = Tuned(start)
        optimizer = NoisyOptimizer(tuned.parameter, tuning(), 3.0, Silent())
        for users in (BY_USER, [BY_USER[0]], [], BY_USER[1:]):
            noisy_step_of_users(model, data, users, tuned, optimizer, tokens)
        prompts.append(tuned.vectors())
    assert not torch.equal(prompts[0], start)
    for other in prompts[1:]:
        torch.testing.assert_close(prompts[0], other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("directions", [None, subspace()], ids=["whole prompt", "subspace"])
def test_users_of_one_record_each_give_bit_for_bit_the_prompt_of_the_record_level(
    model: LanguageModel, tiny_task: Task, directions: Subspace | None
) -> None:
    asked = tuning(rate=0.5, steps=4)
    users = tuned_by(model, tiny_task, tuple("fbcdea"), asked, Seeded(3), directions)
    plain = replace(asked, spend=replace(asked.spend, unit="record"))
    records = tuned_by(model, tiny_task, (), plain, Seeded(3), directions)
    assert torch.equal(users, records)
    assert not torch.equal(users, tuned_by(model, tiny_task, (), plain, Seeded(4), directions))


def test_users_are_sampled_and_records_are_not(causal: LanguageModel, tiny_task: Task) -> None:
    users, records = Seeded(), Seeded()
    tuned_by(causal, tiny_task, USERS, tuning(rate=0.5, steps=5), users)
    tuned_by(causal, tiny_task, USERS, tuning("record", rate=0.5, steps=5), records)
    assert (users.sampled, records.sampled) == ([(3, 0.5)] * 5, [(6, 0.5)] * 5)


def test_more_of_the_same_from_a_user_changes_nothing(causal: LanguageModel, tiny_task: Task) -> None:
    data = encoded(causal, tiny_task, copies=4)
    once = sums(causal, tiny_task, [[1], [3]], data, 1)
    assert torch.equal(sums(causal, tiny_task, [[1, 7, 13, 19], [3]], data, 1), once)


def test_a_step_without_a_sampled_user_still_moves_by_noise(causal: LanguageModel, tiny_task: Task) -> None:
    for directions in (None, subspace()):
        moved = tuned_by(causal, tiny_task, USERS, tuning(rate=1e-12, steps=2), Seeded(), directions)
        assert not torch.equal(moved, causal.text_prompt(tiny_task.init_text, P).vectors)
        assert not sums(causal, tiny_task, [], encoded(causal, tiny_task), directions=directions).any()


def test_users_are_tuned_in_a_subspace_and_nowhere_else(causal: LanguageModel, tiny_task: Task) -> None:
    axes, data = subspace(), encoded(causal, tiny_task)
    start = causal.text_prompt(tiny_task.init_text, P).vectors
    coordinates = axes.coordinates(per_record_gradients(causal, data, range(6), start))
    expected = sum(share([coordinates[index] for index in records]) for records in BY_USER)
    total = sums(causal, tiny_task, BY_USER, data, directions=axes).double() * GRID
    assert (total - expected).abs().max() <= 1e-5 * CLIP
    update = tuned_by(causal, tiny_task, USERS, tuning(steps=5), Seeded(), axes) - start
    torch.testing.assert_close(axes.vectors(axes.coordinates(update[None])[0]), update, atol=1e-6, rtol=0)


def test_the_denominator_is_the_declared_number_of_users(causal: LanguageModel, tiny_task: Task) -> None:
    seen: list[torch.Tensor] = []
    for expected in (1.0, 10.0):
        vectors = causal.text_prompt(tiny_task.init_text, P).vectors
        tuned = Tuned(vectors)
        optimizer = NoisyOptimizer(tuned.parameter, tuning(), expected, Silent())
        optimizer.attach_step_hook(lambda _, at=tuned.parameter: seen.append(at.grad.clone()))
        noisy_step_of_users(causal, encoded(causal, tiny_task), BY_USER, tuned, optimizer)
    torch.testing.assert_close(seen[0], 10 * seen[1])


def test_without_noise_the_users_are_weighed_alike(causal: LanguageModel, tiny_task: Task) -> None:
    data = encoded(causal, tiny_task)
    tuned = Tuned(causal.text_prompt(tiny_task.init_text, P).vectors)
    gradients = per_record_gradients(causal, data, range(6), tuned.vectors())
    optimizer = NoisyOptimizer(tuned.parameter, tuning(sigma=0.0), 1.0, Silent())
    seen: list[torch.Tensor] = []
    optimizer.attach_step_hook(lambda _: seen.append(tuned.parameter.grad.clone()))
    noisy_step_of_users(causal, data, BY_USER, tuned, optimizer)
    torch.testing.assert_close(seen[0], sum(gradients[records].mean(0) for records in BY_USER))


def test_records_that_name_no_users_are_not_tuned_for_users(causal: LanguageModel, tiny_task: Task) -> None:
    with pytest.raises(DataError, match="name no users"):
        tuned_by(causal, tiny_task, (), tuning(), Seeded())


def test_the_record_level_takes_no_notice_of_users(causal: LanguageModel, tiny_task: Task) -> None:
    asked = tuning("record", rate=0.5, steps=3)
    named, nameless = (tuned_by(causal, tiny_task, users, asked, Seeded()) for users in (USERS, ()))
    assert torch.equal(named, nameless)


def test_a_step_of_single_record_users_is_the_step_of_the_records(
    causal: LanguageModel, tiny_task: Task
) -> None:
    data, start = encoded(causal, tiny_task), causal.text_prompt(tiny_task.init_text, P).vectors
    parameters = [nn.Parameter(start.clone()) for _ in range(2)]
    for parameter, step in zip(parameters, (noisy_step, noisy_step_of_users), strict=True):
        tuned = Tuned(start)
        tuned.parameter = parameter
        included = [0, 2, 3] if step is noisy_step else [[0], [2], [3]]
        step(causal, data, included, tuned, NoisyOptimizer(parameter, tuning(), 6.0, Seeded(1)), 40)
    assert torch.equal(*parameters)
