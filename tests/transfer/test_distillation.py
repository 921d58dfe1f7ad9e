"""Distillation beyond the plain recipe: what is frozen, how a step is made up, and going on after an end."""

import os
import random
import resource
import signal
from dataclasses import replace

import pytest
import torch

from transfer.checkpoint import FILE
from transfer.cloze import UNTOLD, compared, exercises, sequences_of
from transfer.distil_options import parse_freeze
from transfer.distillation import DistilSettings, _Distillation, distil, make
from transfer.errors import AlreadyExistsError, ModelError, UsageError
from transfer.models import LanguageModel
from transfer.proxy import Proxy, cut

WORDS = ("The", "film", "was", "great", "actors", "good", "It", "fun", "terrible", "plot", "bad", "boring")
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=14)) for number in range(60)]
SHORT = DistilSettings(
    steps=6,
    batch_tokens=128,
    sequence_tokens=24,
    learning_rate=5e-3,
    weights=(5.0, 0.1, 1.0),  # a random target knows no language
    check_every=3,
)
EVERYTHING = replace(SHORT, steps=11, accumulate=2, prompted_share=0.5, check_every=4)


def stirred(model):
    """The tiny model with layers that matter: fresh ones are so small that there is nothing to learn."""
    with torch.no_grad():
        for matrix in model.model.parameters():
            matrix.mul_(8 if matrix.ndim == 2 else 1)
    return model


def proxy_of(target):
    return LanguageModel(cut(target, (0,)), target.tokenizer, target.ref, target.lm_head)


def drawn(target, settings, seed=0):
    lines = sequences_of(target, TEXTS, settings.sequence_tokens)
    return list(exercises(target, lines, settings, torch.Generator().manual_seed(seed)))


def weights(proxy):
    return proxy.model.model.state_dict()


def same(one, other):
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def rows_of(exercise, low, high):
    """The part of an exercise that its sequences from `low` to `high` are."""
    chosen = (exercise.rows >= low) & (exercise.rows < high)
    return replace(
        exercise,
        ids=exercise.ids[low:high],
        mask=exercise.mask[low:high],
        rows=exercise.rows[chosen] - low,
        columns=exercise.columns[chosen],
        goal=exercise.goal[chosen],
    )


def gradient(run, parts):
    run.proxy.model.requires_grad_(True)
    run.proxy.model.zero_grad()
    for loss in run.losses(parts):
        loss.backward()
    return torch.cat([weight.grad.flatten() for weight in run.proxy.model.parameters()])


@pytest.mark.parametrize("kl_at", ["masked", "all"])
def test_accumulated_batches_have_the_gradient_of_one_large_batch(model, kl_at):
    settings = replace(SHORT, batch_tokens=10_000, kl_at=kl_at, masked_share=0.4)
    run = _Distillation(model, proxy_of(model), settings)
    (whole,) = drawn(model, settings)
    parts = [rows_of(whole, 0, 7), rows_of(whole, 7, 11), rows_of(whole, 11, len(whole.ids))]
    assert len({len(part.rows) for part in parts}) > 1
    expected, ours = gradient(run, [whole]), gradient(run, parts)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max()))
    halves = sum(gradient(run, [part]) for part in parts) / len(parts)
    assert not torch.allclose(halves, expected, atol=1e-3 * float(expected.abs().max()))


@torch.no_grad()
def test_the_loss_is_five_parts_kl_two_language_model_and_one_cosine(model):
    """POST eq. 1 at temperature 2, by plain forward passes of the whole models."""
    settings = DistilSettings(batch_tokens=10_000, sequence_tokens=24)
    target, proxy = stirred(model), proxy_of(model)
    (part,) = drawn(target, settings)
    (loss,) = _Distillation(target, proxy, settings).losses([part])
    passes = [
        each.model(input_ids=part.ids, attention_mask=part.mask, output_hidden_states=True)
        for each in (target, proxy)
    ]
    theirs, ours = (out.logits[part.rows, part.columns] for out in passes)
    p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
    kl = 4 * (p * (p / q).log()).sum(-1).mean()
    chances = ours.softmax(-1).gather(1, part.goal.unsqueeze(1))
    states = [out.hidden_states[-1][part.mask.bool()] for out in passes]
    apart = 1 - torch.cosine_similarity(*states, dim=-1)
    torch.testing.assert_close(loss, 5 * kl - 2 * chances.log().mean() + apart.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "freeze", "moved"),
    [
        ("causal", (), {"embeddings", "head"}),
        ("causal", ("embeddings",), {"head"}),
        ("causal", ("head",), {"embeddings"}),
        ("causal", ("embeddings", "head"), set()),
        ("gpt2", (), {"embeddings", "head"}),
        ("gpt2", ("embeddings",), set()),
        ("gpt2", ("head",), set()),
        ("masked", ("embeddings",), set()),
        ("masked", (), {"embeddings", "head"}),
    ],
)
def test_frozen_parts_stay_and_one_tensor_is_frozen_with_either_of_its_names(kind, freeze, moved, request):
    target = stirred(request.getfixturevalue(kind))
    raw = cut(target, (0,))
    made = distil(target, (0,), TEXTS, replace(SHORT, freeze=freeze)).model.model
    sides = {"embeddings": "get_input_embeddings", "head": "get_output_embeddings"}
    before = {name: getattr(raw, side)().weight for name, side in sides.items()}
    after = {name: getattr(made, side)().weight for name, side in sides.items()}
    assert {name for name in sides if not torch.equal(before[name], after[name])} == moved
    assert (after["embeddings"] is after["head"]) == (before["embeddings"] is before["head"])


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("both", ("embeddings", "head")),
        ("embeddings, head", ("embeddings", "head")),
        ("head", ("head",)),
        ("none", ()),
    ],
)
def test_what_to_freeze_is_said_as_the_help_says_it(said, parts):
    assert replace(SHORT, freeze=parse_freeze(said)).freeze == parts


def test_a_trained_tied_head_is_saved_and_loaded_tied(gpt2, tmp_path):
    made = make(stirred(gpt2), (0,), TEXTS, replace(SHORT, freeze=()), tmp_path / "proxy")
    read = Proxy.load(tmp_path / "proxy", name=made.model.ref.name)
    assert same(read, made)
    assert read.model.model.get_output_embeddings().weight is read.model.embedding


def test_bf16_learns_like_float32_and_leaves_float32_weights(model):
    stirred(model)
    full, reduced = (
        distil(model, (0,), TEXTS, replace(SHORT, precision=kind)) for kind in ("float32", "bf16")
    )
    assert not same(full, reduced)
    assert reduced.held_out_kl == pytest.approx(full.held_out_kl, rel=0.05)
    assert {value.dtype for value in weights(reduced).values()} == {torch.float32}


def test_a_masked_models_kl_is_taken_at_the_masked_tokens_or_at_all(masked):
    for few, every in zip(drawn(masked, SHORT), drawn(masked, replace(SHORT, kl_at="all")), strict=True):
        assert len(every.rows) == int(every.mask.sum()) > len(few.rows)
        told = every.told
        assert torch.equal(every.ids, few.ids)
        assert all(
            torch.equal(getattr(told, name), getattr(few, name)) for name in ("rows", "columns", "goal")
        )
        assert (every.goal == UNTOLD).sum() == len(every.rows) - len(few.rows)


def test_proxies_of_both_kinds_of_kl_are_measured_at_the_same_tokens(masked):
    few, every = (distil(masked, (0,), TEXTS, replace(SHORT, steps=0, kl_at=at)) for at in ("masked", "all"))
    assert few.held_out_kl == every.held_out_kl
    trained = distil(masked, (0,), TEXTS, replace(SHORT, kl_at="all"))
    assert trained.target_perplexity == few.target_perplexity


def test_a_prompted_batch_is_read_behind_its_prompt(model):
    settings = replace(SHORT, prompted_share=1.0, prompted_tokens=3)
    exercise = drawn(model, settings)[0]
    states = model.model.base_model(
        inputs_embeds=torch.cat(
            [exercise.prompt.expand(len(exercise.ids), -1, -1), model.embedding[exercise.ids]], dim=1
        ),
        attention_mask=exercise.mask,
    ).last_hidden_state
    logits, kept = compared(model, exercise)
    assert kept.shape == (*exercise.ids.shape[:1], exercise.ids.shape[1] + 3, model.width)
    assert torch.allclose(kept, states, atol=1e-5)
    moved = exercise.ids[exercise.rows, exercise.columns - 3 + model.causal]
    if model.causal:
        assert torch.equal(moved, exercise.goal)
    else:
        mask_id = model.tokenizer.mask_token_id
        assert (moved == mask_id).float().mean() > 0.5
        assert not (exercise.ids[exercise.rows, exercise.columns - 4] == mask_id).all()
    bare, _ = compared(
        model,
        replace(
            exercise, mask=exercise.mask[:, 3:], columns=exercise.columns - 3, prompt=exercise.prompt[:0]
        ),
    )
    assert not torch.allclose(logits, bare, atol=1e-4)


def test_prompts_are_rows_of_the_embedding_fresh_for_each_batch_of_the_share(model):
    half = drawn(model, replace(SHORT, prompted_share=0.5, batch_tokens=64))
    prompts = [exercise.prompt for exercise in half if len(exercise.prompt)]
    assert 0 < len(prompts) < len(half)
    assert all((row == model.embedding).all(dim=1).any() for prompt in prompts for row in prompt)
    assert not torch.equal(prompts[0], prompts[1])
    assert not any(len(exercise.prompt) for exercise in drawn(model, SHORT))


def test_a_prompt_that_does_not_fit_the_positions_is_refused(causal):
    settings = replace(SHORT, prompted_share=0.1, prompted_tokens=120)
    with pytest.raises(ModelError, match=r"128 positions, prompt and line need 1.*lower sequence_tokens"):
        distil(causal, (0,), TEXTS, settings)


class PowerCut(BaseException):
    """The process ends here."""


def interrupted_at(number):
    def on_progress(step, _kl):
        if step == number:
            raise PowerCut

    return on_progress


@pytest.mark.parametrize(
    ("kind", "step"), [("causal", 2), ("causal", 4), ("causal", 11), ("masked", 7), ("gpt2", 7)]
)
def test_an_interrupted_distillation_goes_on_to_the_very_same_proxy(kind, step, request, tmp_path):
    model = stirred(request.getfixturevalue(kind))
    whole = distil(model, (0,), TEXTS, EVERYTHING)
    assert whole.held_out_kl < distil(model, (0,), TEXTS, replace(EVERYTHING, steps=0)).held_out_kl
    with pytest.raises(PowerCut):
        distil(model, (0,), TEXTS, EVERYTHING, interrupted_at(step), tmp_path / "part")
    torch.rand(step)  # whatever else the process draws has no influence
    seen = []
    resumed = distil(model, (0,), TEXTS, EVERYTHING, lambda at, _: seen.append(at), tmp_path / "part")
    assert seen == list(range(step // 4 * 4 + 1 if step < 11 else 12, 12))
    assert same(resumed, whole)
    assert (resumed.steps, resumed.held_out_kl) == (whole.steps, whole.held_out_kl)


def test_a_distillation_that_was_interrupted_on_its_plateau_is_over(causal, tmp_path):
    hopeless = replace(SHORT, steps=100, learning_rate=1e-12, check_every=2, patience=2)
    with pytest.raises(PowerCut):
        distil(causal, (0,), TEXTS, hopeless, interrupted_at(4), tmp_path / "part")
    assert distil(causal, (0,), TEXTS, hopeless, interrupted_at(5), tmp_path / "part").steps == 4


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(causal, tmp_path):
    place, target = tmp_path / "part", stirred(causal)

    def full_disk(step, _kl):
        if step == 5:  # the write at step 8 is cut short by the kernel, which ends the process
            half = (place / FILE).stat().st_size // 2
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))

    child = os.fork()
    if not child:
        distil(target, (0,), TEXTS, EVERYTHING, full_disk, place)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -signal.SIGXFSZ
    assert sorted(path.name.startswith(".") for path in place.iterdir()) == [False, True]
    seen = []
    resumed = distil(target, (0,), TEXTS, EVERYTHING, lambda at, _: seen.append(at), place)
    assert seen[0] == 5
    assert same(resumed, distil(target, (0,), TEXTS, EVERYTHING))
    assert [path.name for path in place.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"settings": replace(EVERYTHING, learning_rate=1e-3)}, "learning_rate"),
        ({"settings": replace(EVERYTHING, freeze=())}, "freeze"),
        ({"layers": (1,)}, "layers"),
        ({"texts": TEXTS[1:]}, "texts"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused_in_one_line(causal, tmp_path, change, key):
    given = {"layers": (0,), "texts": TEXTS, "settings": EVERYTHING}
    with pytest.raises(PowerCut):
        distil(causal, **given, on_progress=interrupted_at(4), unfinished=tmp_path / "part")
    with pytest.raises(
        UsageError, match=rf"is of recipe [0-9a-f]{{12}}, not of [0-9a-f]{{12}}: {key} differ"
    ) as caught:
        distil(causal, **given | change, unfinished=tmp_path / "part")
    assert str(tmp_path / "part" / FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[9:]])
def test_a_damaged_checkpoint_is_named(causal, tmp_path, damage):
    with pytest.raises(PowerCut):
        distil(causal, (0,), TEXTS, EVERYTHING, interrupted_at(4), tmp_path)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    with pytest.raises(UsageError, match=rf"{FILE}: cannot be read .*: remove it") as caught:
        distil(causal, (0,), TEXTS, EVERYTHING, unfinished=tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unfinished_distillation_is_not_begun_anew_by_accident(causal, tmp_path):
    place = tmp_path / "proxy"

    def stop(step, _steps):
        if step == 5:
            raise PowerCut

    with pytest.raises(PowerCut):
        make(causal, 1, TEXTS, EVERYTHING, place, on_step=stop)
    assert [path.name for path in tmp_path.iterdir()] == [".proxy.unfinished"]
    with pytest.raises(AlreadyExistsError, match=r"\.proxy\.unfinished holds an unfinished distillation"):
        make(causal, 1, TEXTS, EVERYTHING, place)
    made = make(causal, 1, TEXTS, EVERYTHING, place, resume=True)
    assert same(made, distil(causal, (0,), TEXTS, EVERYTHING))
    assert [path.name for path in tmp_path.iterdir()] == ["proxy"]


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 0},
        {"prompted_share": 1.5},
        {"prompted_tokens": 0},
        {"precision": "fp16"},
        {"kl_at": "some"},
        {"freeze": ("body",)},
    ],
)
def test_impossible_settings_name_their_field(change):
    (name,) = change
    with pytest.raises(UsageError, match=f"distillation {name}"):
        replace(SHORT, **change)
