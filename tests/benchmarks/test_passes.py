"""The comparison of shapes runs, and both ways take the same step but for rounding."""

import random

import torch

from client.private.dpsgd import NoisyOptimizer, Tuned, noisy_step
from tests.benchmarks import passes
from tests.benchmarks.workload import made_up_texts, random_model
from transfer.models.per_record_gradients import LabelledLines
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task


class Silent:
    """Randomness that adds nothing."""

    def integers(self, shape):
        return torch.zeros(shape, dtype=torch.int64).numpy()

    def bernoulli(self, n, rate):
        raise AssertionError("nothing is drawn here")


def test_both_ways_take_the_same_step():
    task = Task.from_toml(passes.TASK)
    model = random_model("tiny", task)
    encoder, texts = model.encoder(task), made_up_texts(40)
    data = LabelledLines(encoder.encode(texts), torch.arange(40) % 2, encoder.words)
    start, chosen, moved = (
        model.text_prompt(task.init_text, 4).vectors,
        random.Random(0).sample(range(40), 25),
        [],
    )
    for way in (noisy_step, passes.made_to_measure):
        tuned = Tuned(start)
        asked = Tuning(Spend(1.0, 0.5, 1), clip_norm=0.1, learning_rate=0.1, optimizer="sgd")
        way(model, data, chosen, tuned, NoisyOptimizer(tuned.parameter, asked, 25, Silent()))
        moved.append(tuned.vectors() - start)
    assert moved[0].abs().max() > 0
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-6)


def test_a_comparison_tells_seconds_and_ratio():
    task = Task.from_toml(passes.TASK)
    row = passes.compare(random_model("tiny", task), task, made_up_texts(30), 6, 2)
    assert row["records"] == 6
    assert row["ratio"] == row["fixed_s"] / row["made_to_measure_s"] > 0
