"""Both recipes do the same work, and the table says what was measured. How fast they are is not tested."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client.private.noise import NoiseSource
from tests.benchmarks import reference, speed
from tests.benchmarks.timing import Batch, Result, Stage, bound_s, measure, watched
from tests.benchmarks.workload import LEAST, MOST, Workload, made_up_texts, proxy_of, random_model
from transfer.distillation import proxy
from transfer.distillation.settings import LEAST_TOKENS
from transfer.errors import UsageError
from transfer.models.loading import load
from transfer.terminal.console import run
from transfer.tokens.corpus import sequences_of

TEXTS = [
    f"We liked the {word} film and the music{' and the plot' * count}."
    for count in range(4)
    for word in ("good", "bad", "slow", "long", "fun", "boring")
]


@pytest.fixture(autouse=True)
def _fits_tiny_models(monkeypatch):
    monkeypatch.setattr(reference, "LENGTH", 64)


@pytest.fixture(params=["tiny_causal", "tiny_masked"])
def work(request, tiny_task):
    return of_model(request, request.param, tiny_task)


@pytest.fixture
def causal_work(request, tiny_task):
    return of_model(request, "tiny_causal", tiny_task)


def of_model(request, name, task):
    target = load(request.getfixturevalue(name))
    with torch.no_grad():  # fresh weights are so small that a prompt hardly moves an answer
        for matrix in target.model.parameters():
            matrix.mul_(4 if matrix.ndim == 2 else 1)
    return Workload(target, proxy_of(target, 1), task, TEXTS, prompt_tokens=4)


@contextmanager
def gradients():
    """The gradients every step of any optimiser starts from."""
    seen = []

    def note(optimizer, *_):
        seen.append([weight.grad.clone() for group in optimizer.param_groups for weight in group["params"]])

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def of_first_step(step):
    with gradients() as seen:
        step()
    return torch.cat([gradient.flatten() for gradient in seen[0]])


def learnt_from(work, stage):
    """The texts of one step of ours, which holds some out."""
    target = work.target
    owner = {line.ids: text for text in work.texts for line in (
        *target.encoder(work.task).encode([text]),
        *sequences_of(target.tokenizer, [text], LEAST_TOKENS, speed.SEQUENCE),
    )}  # fmt: skip
    rows, steps = [], []
    handle = target.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, inputs: rows.extend(inputs[0].tolist())
    )
    stage.ours(3, lambda step, _steps: steps.append(len(rows)))
    handle.remove()
    return [owner[tuple(token for token in row if token != 0)] for row in rows[steps[0] : steps[1]]]


def difference(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def test_tuning_learns_from_the_same_gradient(work):
    stage = speed.tuning(work, len(TEXTS), private=False)
    ours = of_first_step(lambda: stage.ours(1, lambda *_: None))
    assert difference(ours, of_first_step(stage.reference)) < 1e-4


class Silent(NoiseSource):
    """Every record takes part and the noise is zero."""

    def integers(self, shape):
        return np.zeros(shape, dtype=np.int64)


def test_private_tuning_learns_from_the_same_clipped_gradient(work, monkeypatch):
    monkeypatch.setattr(reference, "CLIP_NORM", 1e-3)  # less than most records' gradients
    monkeypatch.setattr(speed, "NoiseSource", Silent)
    stage = speed.tuning(work, len(TEXTS), private=True)
    ours = of_first_step(lambda: stage.ours(1, lambda *_: None))
    monkeypatch.setattr(speed, "NOISE", 0.0)
    theirs = of_first_step(speed.tuning(work, len(TEXTS), private=True).reference)
    assert difference(ours, theirs) < 0.01  # Opacus adds 1e-6 to each norm it divides by
    assert difference(of_first_step(stage.plain), theirs) > 0.1, "nothing was clipped"


def test_transfer_learns_from_the_same_gradient(work):
    stage = speed.transferring(work, 8)
    learnt = learnt_from(work, stage)
    assert len(set(learnt)) == len(TEXTS) - 2
    same = speed.transferring(replace(work, texts=learnt), len(learnt))
    ours = of_first_step(lambda: stage.ours(1, lambda *_: None))
    assert difference(ours, of_first_step(same.reference)) < 1e-3  # ours keeps its references as float16


def test_distillation_learns_from_the_same_gradient(causal_work):
    """Of a causal model: a masked one draws its masks at random."""
    stage = speed.distilling(causal_work, 8)
    learnt = learnt_from(causal_work, stage)
    assert len(set(learnt)) == len(TEXTS) - 1
    same = speed.distilling(replace(causal_work, texts=learnt), len(learnt))
    ours = of_first_step(lambda: stage.ours(1, lambda *_: None))
    assert difference(ours, of_first_step(same.reference)) < 1e-4


@contextmanager
def paid(model):
    """(rows, columns) of every pass through the model's layers, and of every one through its head."""
    heads = []
    handle = model.model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: heads.append(tuple(inputs[0].shape[:-1]))
    )
    with watched(model) as seen:
        yield seen, heads
    handle.remove()


def shapes(seen):
    return [(batch.rows, batch.columns) for batch in seen]


BARE, PROMPTED = (8, 64), (8, 64 + 4)
"""Records and columns of a reference step: the full length, and the prompt before it."""


@pytest.mark.parametrize("private", [False, True])
def test_the_recipes_tuning_pads_to_the_full_length_and_reads_every_position(work, private):
    stage = speed.tuning(work, 8, private=private)
    with paid(work.target) as (seen, heads):
        stage.reference()
    assert shapes(seen) == heads == [PROMPTED]
    assert seen[0].tokens < PROMPTED[0] * PROMPTED[1] / 2, "the records are not short, so nothing was padded"


def test_a_transfer_step_of_the_recipe_is_four_padded_passes_read_at_every_position(work):
    stage = speed.transferring(work, 8)
    with paid(work.proxy) as (theirs, their_heads), paid(work.target) as (ours, our_heads):
        stage.reference()
    assert shapes(theirs) == their_heads == [PROMPTED, BARE]
    assert shapes(ours) == our_heads == [BARE, PROMPTED]


def test_the_recipes_distillation_pads_to_the_full_length_and_reads_every_position(causal_work, monkeypatch):
    cuts = []
    monkeypatch.setattr(speed, "cut", lambda *given: cuts.append(proxy.cut(*given)) or cuts[-1])
    stage = speed.distilling(causal_work, 8)
    learner = SimpleNamespace(model=cuts[0])
    with paid(causal_work.target) as (ours, our_heads), paid(learner) as (theirs, their_heads):
        stage.reference()
    assert shapes(ours) == our_heads == shapes(theirs) == their_heads == [BARE]


def test_our_steps_pay_none_of_it(causal_work):
    """Ours have no padding to speak of, and the head sees the answers alone."""
    stage = speed.transferring(causal_work, 8)
    steps = []
    with paid(causal_work.target) as (seen, heads):
        stage.ours(2, lambda *_: steps.append((len(seen), len(heads))))
    (first, first_head), (last, last_head) = steps
    one, read = seen[first:last], heads[first_head:last_head]
    assert sum(batch.rows for batch in one) >= len(TEXTS) - 2
    assert max(batch.columns for batch in one) < 64
    assert sum(map(math.prod, read)) == sum(batch.rows for batch in one)


def test_everyone_takes_turns_between_our_steps_and_the_first_and_last_do_not_count(causal_work):
    turns = []

    def ours(steps, on_step):
        for step in range(1, steps + 1):
            turns.append("ours")
            on_step(step, steps)

    def bound(rows, columns):
        turns.append("bound")

    others = (lambda: turns.append("reference")), (lambda: turns.append("plain"))
    with pytest.raises(ZeroDivisionError):  # no model passed
        measure(Stage("none", ours, causal_work.target, others[0], 1, bound, others[1]), 2)
    assert turns == ["ours", "ours", "reference", "plain", "ours", "reference", "plain", "ours"]


def test_a_watched_batch_is_counted_without_its_padding(work):
    model = work.target
    lines = model.encoder(work.task).encode(TEXTS[::7])
    with watched(model) as seen:
        model.answer_logits(lines, model.text_prompt("film", 3))
    (batch,) = seen
    longest = max(len(line.ids) for line in lines)
    assert batch == Batch(4, longest + 3, sum(len(line.ids) + 3 for line in lines))
    model.answer_logits(lines)
    assert len(seen) == 1


def test_the_bound_is_for_the_tokens_without_padding():
    asked = []
    seconds = count(step=2.0)
    found = bound_s(
        lambda rows, columns: asked.append((rows, columns)),
        [Batch(4, 9, 30), Batch(1, 5, 5)],
        lambda: next(seconds),
    )
    assert asked == [(4, 8), (1, 5)]
    assert found == pytest.approx(2.0 * 30 / 32 + 2.0)


def test_the_figures_are_rates_ratios_and_shares():
    result = Result("tune", 20, 600, 0.1, 2.0, 8.0, 8, 1.5, 1.6)
    assert result.figures() == pytest.approx(
        {
            "reference_records_per_s": 1.0,
            "our_records_per_s": 10.0,
            "ratio": 10.0,
            "fraction_of_bound": 0.75,
            "private_over_plain": 1.25,
        }
    )
    assert replace(result, plain_s=None).figures()["private_over_plain"] is None


def test_made_up_records_are_as_long_as_they_say(tiny_task):
    model = random_model("tiny", tiny_task)
    texts = made_up_texts(200)
    lengths = [len(text.split()) for text in texts]
    assert texts == made_up_texts(200)
    assert LEAST <= min(lengths) < max(lengths) <= MOST
    template = len(model.tokenizer(" It was")["input_ids"])
    lines = model.encoder(replace(tiny_task, max_tokens=128)).encode(texts)
    assert [len(line.ids) for line in lines] == [length + template for length in lengths]


@pytest.mark.slow
def test_the_command_reports_every_stage(tmp_path, capsys):
    out = tmp_path / "speed.json"
    with pytest.raises(SystemExit) as done:
        run(speed.app, ["--config", "tiny", "--repeats", "1", "--format", "json", "--out", str(out)])
    assert done.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert [row["stage"] for row in report["stages"]] == ["tune, no DP", "tune, DP", "transfer", "distil"]
    assert [row["records"] for row in report["stages"]] == [20, 20, 18, 19]
    assert all(row["ratio"] > 0 for row in report["stages"])
    assert len(speed.table(report).rows) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"config": None, "model": None}, "either --model or --config"),
        ({"config": "tiny", "model": "x"}, "either --model or --config"),
        ({"config": "tiny", "stages": "tune,other"}, "'other' is none of tune, dp"),
        ({"config": "tiny", "clock": "sun"}, "'sun' is none of wall, cpu"),
    ],
)
def test_impossible_arguments_are_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        speed.main(**arguments)
