"""A federation in one process: records dealt to clients, rounds of tuning and combining, nothing sent.

Tuning and aggregation are the product's own. Only the randomness is not: noise that anybody could repeat
protects nobody, and is what makes a cell come out the same after an interruption.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from client.private.dpsgd import tune
from client.private.noise import GRID_BITS
from client.private.records import PrivateRecords
from coordinator.rounds.aggregation import DEFAULT
from coordinator.rounds.server_optimizers import ServerOptimizer
from tests.benchmarks.quality_cells import Condition
from tests.benchmarks.quality_directions import subspace
from tests.benchmarks.quality_recipe import Recipe
from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.privacy import Spend, calibrate
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task

LEAST_SHARE = 0.05
"""A skewed deal is drawn again until every client has this part of an equal share."""
DEALS = 1000


class Seeded:
    """Randomness of `client.private.noise` that can be repeated: for measurements, never for anybody's data."""

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Independent Round(N(0, 2**40)) of the given shape."""
        return np.rint(self._generator.normal(0.0, 2.0**GRID_BITS, shape)).astype(np.int64)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """[n] independent inclusions."""
        return self._generator.random(n) < rate


def drawn(rows: int, limit: int, seed: int) -> list[int]:
    """Up to `limit` of the row numbers below `rows`, all of them for 0, in an order only `seed` decides."""
    order = list(range(rows))
    random.Random(seed).shuffle(order)
    return order[:limit] if limit else order


def taken(records: PrivateRecords, rows: Sequence[int]) -> PrivateRecords:
    """Some of the records."""
    labels = tuple(records.labels[row] for row in rows) if records.labels else ()
    answers = tuple(records.answers[row] for row in rows) if records.answers else ()
    return PrivateRecords(tuple(records.texts[row] for row in rows), labels, answers)


def deal(records: PrivateRecords, clients: int, skew: float | None, seed: int) -> list[PrivateRecords]:
    """Every record to exactly one client.

    Without `skew` they are dealt out in turn; with it each label is split by a draw from Dirichlet(β, …, β)
    (Hsu et al. 2019, https://arxiv.org/abs/1909.06335): the smaller β, the fewer labels a client knows.

    Raises:
        UsageError: too few records for so many clients.
    """
    rows = range(len(records.texts))
    if clients > len(rows):
        raise UsageError(f"{len(rows)} records are too few for {clients} clients")
    if skew is None or clients == 1:
        hands = [list(rows[index::clients]) for index in range(clients)]
    else:
        hands = _skewed(records.labels, clients, skew, seed)
    return [taken(records, hand) for hand in hands]


def _skewed(labels: Sequence[int], clients: int, beta: float, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    least = max(1, round(LEAST_SHARE * len(labels) / clients))
    for _ in range(DEALS):
        hands: list[list[int]] = [[] for _ in range(clients)]
        for label in sorted(set(labels)):
            rows = [row for row, own in enumerate(labels) if own == label]
            ends = np.cumsum(generator.dirichlet([beta] * clients))[:-1] * len(rows)
            for hand, part in zip(hands, np.split(np.array(rows), ends.round().astype(int)), strict=True):
                hand += part.tolist()
        if min(map(len, hands)) >= least:
            return hands
    raise UsageError(f"{DEALS} deals at dirichlet:{beta:g} left one of {clients} clients without records")


def tunings(recipe: Recipe, condition: Condition, shards: Sequence[PrivateRecords]) -> list[Tuning]:
    """What each client is asked in each round; under privacy the noise is calibrated over all rounds."""
    if condition.private:
        rate, steps = recipe.sample_rate, recipe.steps
        noise = calibrate(condition.epsilon, recipe.delta, rate, steps * recipe.rounds)
        return [Tuning(Spend(noise, rate, steps), recipe.clip_norm, recipe.learning_rate)] * len(shards)
    rates = [min(1.0, recipe.plain_lot / len(shard.texts)) for shard in shards]
    return [
        Tuning(Spend(0.0, rate, recipe.plain_steps), recipe.clip_norm, recipe.plain_learning_rate)
        for rate in rates
    ]


def tune_together(
    model: LanguageModel,
    task: Task,
    records: PrivateRecords,
    public: Sequence[str],
    start: SoftPrompt,
    recipe: Recipe,
    condition: Condition,
    on_step: Callable[[int, int], None],
) -> SoftPrompt:
    """From `start`, the aggregate of the last round of a federation that shares out `records`.

    Raises:
        UsageError: the records cannot be dealt, or the noise not be calibrated.
    """
    shards = deal(records, condition.clients, recipe.skew, condition.seed)
    asked = tunings(recipe, condition, shards)
    each = asked[0].spend.steps
    total, before = recipe.rounds * len(shards) * each, 0
    prompt = start
    server = ServerOptimizer(recipe.strategy if condition.clients > 1 else DEFAULT, {})
    for number in range(recipe.rounds):
        allowed = (
            subspace(recipe, model, task, public, prompt, condition.seed + number)
            if condition.private
            else None
        )
        replies = {}
        for index, (shard, tuning) in enumerate(zip(shards, asked, strict=True)):
            replies[f"client-{index}"] = tune(
                model, shard, task, prompt, tuning,
                declared_units=len(shard.texts),
                randomness=Seeded(condition.seed, number, index), subspace=allowed,
                on_step=lambda step, _steps, done=before: on_step(done + step, total),
            )  # fmt: skip
            before += each
        prompt = server.close(replies, prompt).prompt
    return prompt
