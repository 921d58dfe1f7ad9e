"""Every gradient is one record's own, and the tuned prompt is exactly what was accounted for."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from client.private.dpsgd import OPTIMIZERS, NoisyOptimizer, Tuned, noisy_step, tune
from client.private.noise import GRID_BITS, NoiseSource
from client.private.records import PrivateRecords
from tests.promises import Measured
from transfer.errors import ModelError, PromptferryError, UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.objectives import answer_loss, label_loss
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.post.evaluation import accuracy
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.protocol.tuning_table import Optimizer
from transfer.subspace import Subspace
from transfer.tasks import Label, Task
from transfer.tokens.readout import label_logits

TEXTS = (
    "The film was great.",
    "A terrible plot, a bad ending and a boring evening.",
    "We liked it",
    "Nobody liked the weather, the noise or the slow train and it was awful.",
    "good",
    "The match was won in the last minute by a young team.",
)
LABELS = (0, 1, 0, 1, 0, 1)
ANSWERS = ("film", "a bad ending", "it", "the slow train", "good", "a young team")
P = 4


@pytest.fixture(scope="module")
def tiny_gpt2(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learned absolute positions, beside the rotary Llama and the bidirectional BERT."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=128)
    directory = tmp_path_factory.mktemp("tiny-gpt2") / "lm"
    GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(params=["tiny_causal", "tiny_masked", "tiny_gpt2"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return load(request.getfixturevalue(request.param))


WITH_A_HEAD = pytest.mark.parametrize(
    "model", ["tiny_causal", "tiny_masked", "tiny_gpt2", "tiny_encoder"], indirect=True
)
"""A head reads models without an LM head as well."""


@pytest.fixture
def data(model: LanguageModel, tiny_task: Task) -> LabelledLines:
    encoder = model.encoder(tiny_task)
    return LabelledLines(encoder.encode(TEXTS), torch.tensor(LABELS), encoder.words)


@pytest.fixture
def vectors(model: LanguageModel) -> nn.Parameter:
    return nn.Parameter(model.text_prompt("A sentence about a review", P).vectors.clone())


def tuning(sigma: float, rate: float = 1.0, steps: int = 1, clip: float = 0.05) -> Tuning:
    return Tuning(Spend(sigma, rate, steps), clip_norm=clip, learning_rate=0.01)


def whole(parameter: nn.Parameter) -> Tuned:
    """A whole prompt under way that is this very parameter."""
    tuned = Tuned(parameter.detach())
    tuned.parameter = parameter
    return tuned


def subspace(dimensions: int) -> Subspace:
    """Random orthonormal directions."""
    draw = torch.randn(P * 32, dimensions, generator=torch.Generator().manual_seed(2))
    return Subspace(torch.linalg.qr(draw).Q.T.reshape(dimensions, P, 32).contiguous())


def looped(model: LanguageModel, data: LabelledLines, index: int, vectors: torch.Tensor) -> torch.Tensor:
    """The oracle: one record alone, one backward pass through the shared prompt."""
    prompt = vectors.detach().clone().requires_grad_(True)
    batch = model.collate([data.lines[index]])
    logits = label_logits(model.logits(batch, prompt.unsqueeze(0)), data.words)
    label_loss(logits, data.labels[[index]]).sum().backward()
    assert prompt.grad is not None
    return prompt.grad


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).abs().max() / reference.abs().max())


@pytest.mark.promise("gradients")
def test_per_record_gradients_equal_one_backward_pass_a_record(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter, measured: Measured
) -> None:
    ours = per_record_gradients(model, data, range(len(TEXTS)), vectors)
    reference = torch.stack([looped(model, data, index, vectors) for index in range(len(TEXTS))])
    assert ours.shape == (len(TEXTS), P, 32)
    measured(relative_error=relative_error(ours, reference))
    assert relative_error(ours, reference) <= 1e-5


@pytest.fixture
def headed(tiny_task: Task) -> Task:
    """Labels read by a head; of the `P` rows half are the prompt then."""
    labels = (Label("positive", ()), Label("negative", ()))
    return replace(tiny_task, template="{text}", labels=labels, label_reading="head")


@pytest.fixture(params=["whole", "text", "head"])
def other(request: pytest.FixtureRequest, tiny_task: Task, headed: Task) -> Task:
    """Label words of several tokens, answers in free text, and a head."""
    if request.param == "head":
        return headed
    if request.param == "text":
        return replace(tiny_task, labels=(), kind="text", answer_tokens=6)
    labels = (Label("good", ("good", "great evening")), Label("bad", ("weatherfood",)))
    return replace(tiny_task, labels=labels, label_reading="whole")


@pytest.mark.promise("gradients", "neighbours")
def test_whatever_is_read_a_records_gradient_is_its_own(
    model: LanguageModel, other: Task, vectors: nn.Parameter
) -> None:
    if other.kind == "text" and not model.causal:
        pytest.skip("a masked model writes no text")
    encoder = model.encoder(other)
    lines = encoder.encode(TEXTS, ANSWERS if other.kind == "text" else ())
    data = LabelledLines(lines, torch.tensor(LABELS), encoder.words)
    prompt = vectors.detach().clone().requires_grad_(True)
    slow = []
    for line, label in zip(lines, LABELS, strict=True):
        batch = model.collate([line])
        logits = model.logits(batch, prompt.unsqueeze(0), encoder.words)
        goal = torch.tensor([label] if batch.goal is None else line.goal)
        slow.append(torch.autograd.grad(label_loss(logits, goal).mean(), prompt)[0])
    ours = per_record_gradients(model, data, range(len(TEXTS)), vectors)
    assert relative_error(ours, torch.stack(slow)) <= 1e-5
    for group in ([3, 5, 1], [3, 3]):  # the same record twice shares a pass for certain
        assert torch.equal(per_record_gradients(model, data, group, vectors), ours[group])


@WITH_A_HEAD
def test_one_clip_bounds_a_record_over_prompt_and_head(
    model: LanguageModel, headed: Task, vectors: nn.Parameter
) -> None:
    encoder = model.encoder(headed)
    data = LabelledLines(encoder.encode(TEXTS), torch.tensor(LABELS), encoder.words)
    unclipped = per_record_gradients(model, data, [3], vectors)[0]
    assert unclipped[:2].norm() > 0
    assert unclipped[2:].norm() > 0
    clip = 0.5 * unclipped.norm().item()
    optimizer = NoisyOptimizer(vectors, tuning(1.0, clip=clip), 1.0, Silent())
    seen: list[torch.Tensor] = []
    optimizer.attach_step_hook(lambda _: seen.append(vectors.grad.clone()))  # type: ignore[union-attr]
    noisy_step(model, data, [3], whole(vectors), optimizer)
    torch.testing.assert_close(seen[0], 0.5 * unclipped, rtol=1e-4, atol=1e-6)


@WITH_A_HEAD
def test_without_noise_tuning_learns_prompt_and_head(model: LanguageModel, headed: Task) -> None:
    start = model.text_prompt(headed.init_text, P).longer(headed.head_rows)
    plan = Tuning(Spend(0.0, 1.0, 30), clip_norm=1.0, learning_rate=0.1)
    records = PrivateRecords(TEXTS, LABELS)
    tuned = tune(model, records, headed, start, plan, declared_units=6, randomness=NoiseSource())
    assert accuracy(model, headed, TEXTS, LABELS, tuned).micro == 1.0
    assert not torch.equal(tuned.vectors[:P], start.vectors[:P])


def test_tuning_with_noise_takes_answers_in_free_text(tiny_causal: Path, tiny_task: Task) -> None:
    model, task = load(tiny_causal), replace(tiny_task, labels=(), kind="text", answer_tokens=6)
    records, counted = PrivateRecords(TEXTS, answers=ANSWERS), Counting()
    start = model.text_prompt(task.init_text, P)
    tuned = tune(
        model, records, task, start, tuning(1.0, steps=3), declared_units=6, randomness=counted
    )  # fmt: skip
    assert (counted.noises, counted.samples) == (3, 3)
    assert not torch.equal(tuned.vectors, start.vectors)


def test_without_noise_tuning_learns_the_answers(tiny_causal: Path, tiny_task: Task) -> None:
    model, task = load(tiny_causal), replace(tiny_task, labels=(), kind="text", answer_tokens=6)
    records = PrivateRecords(TEXTS, answers=ANSWERS)
    start = model.text_prompt(task.init_text, P)
    plan = Tuning(Spend(0.0, 1.0, 30), clip_norm=1.0, learning_rate=0.05)
    tuned = tune(model, records, task, start, plan, declared_units=6, randomness=NoiseSource())

    def mean_loss(vectors: torch.Tensor) -> float:
        batch = model.collate(model.encoder(task).encode(TEXTS, ANSWERS))
        assert batch.goal is not None
        logits = model.logits(batch, vectors.expand(len(batch), -1, -1))
        return answer_loss(logits, batch.goal).mean().item()

    assert mean_loss(tuned.vectors) < mean_loss(start.vectors)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_per_record_gradients_equal_those_of_opacus_hooks(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    hooked = GradSampleModule(HookedPrompt(vectors.detach().clone()), loss_reduction="sum")
    batch = model.collate(data.lines)
    rows = hooked(torch.arange(len(batch)))
    label_loss(label_logits(model.logits(batch, rows), data.words), data.labels).sum().backward()
    ours = per_record_gradients(model, data, range(len(TEXTS)), vectors)
    assert relative_error(ours, next(hooked.parameters()).grad_sample) <= 1e-5


@pytest.mark.promise("neighbours")
@pytest.mark.parametrize("group", [[3], [0, 3], [3, 5, 1, 0], [4, 3, 2]])
def test_a_records_gradient_does_not_depend_on_its_neighbours(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter, group: list[int], measured: Measured
) -> None:
    """Record 3 is the longest: it lengthens the others, and nothing lengthens it."""
    for index, among in zip(group, per_record_gradients(model, data, group, vectors), strict=True):
        alone = per_record_gradients(model, data, [index], vectors)[0]
        measured(largest_difference=(among - alone).abs().max().item())
        assert torch.equal(among, alone)


def test_no_record_gives_an_empty_gradient(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    assert per_record_gradients(model, data, [], vectors).shape == (0, P, 32)


@pytest.mark.promise("overhead")
def test_virtual_batches_give_the_weights_of_full_batches(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter, measured: Measured
) -> None:
    """In double precision: Adam divides a gradient near zero by its own size, rounding errors and all."""
    model.model.double()
    start = vectors.detach().double()
    full, virtual = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    for parameter, tokens in ((full, 10_000), (virtual, 30)):
        optimizer = NoisyOptimizer(parameter, tuning(1.0), len(TEXTS), Silent())
        for included in ([0, 1, 2, 3, 4, 5], [2, 5], [], [1, 2, 3, 4]):
            noisy_step(model, data, included, whole(parameter), optimizer, tokens)
    assert not torch.equal(full, start)
    measured(largest_difference_of_a_weight=(full - virtual).abs().max().item())
    torch.testing.assert_close(full, virtual, rtol=0, atol=1e-9)


@pytest.mark.promise("gradients", "mechanism-audit")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_stock_peft_prompt_tuning_is_refused(model: LanguageModel) -> None:
    """PEFT repeats one embedded row, so the only per-record gradient there is would be the batch's mean."""
    config = PromptTuningConfig(task_type=TaskType.FEATURE_EXTRACTION, num_virtual_tokens=P)
    wrapped = get_peft_model(copy.deepcopy(model.model), config)
    with pytest.raises(ModelError, match="PEFT"):
        replace(model, model=wrapped)


@pytest.mark.parametrize("clip", [1e-12, 1e6])
def test_whatever_norm_may_be_asked_for_noise_is_added(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter, clip: float
) -> None:
    """A grid is a product: decided by it, noise and clipping were off where the product was rounded to 0."""
    optimizer = NoisyOptimizer(vectors, tuning(4.0, clip=clip), len(TEXTS), NoiseSource())
    before = vectors.detach().clone()
    noisy_step(model, data, [], whole(vectors), optimizer)
    assert not torch.equal(vectors, before), "an empty step moves by nothing but noise"
    optimizer._grid = 0.0
    with pytest.raises(UsageError, match="grid steps"):
        noisy_step(model, data, [0, 1], whole(vectors), optimizer)


@pytest.mark.promise("sampling")
def test_an_empty_step_still_moves_by_noise(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    before = vectors.detach().clone()
    optimizer = NoisyOptimizer(vectors, tuning(1.0), 6, NoiseSource())
    noisy_step(model, data, [], whole(vectors), optimizer)
    assert not torch.equal(before, vectors)


def test_released_gradient_is_the_clipped_sum_plus_the_drawn_noise(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    clip, sigma, denominator = 0.05, 0.5, 7.0
    gradients = per_record_gradients(model, data, range(6), vectors).double()
    scale = (clip / gradients.flatten(1).norm(dim=1)).clamp(max=1)
    clipped = (gradients * scale[:, None, None]).sum(0)
    noise = np.random.default_rng(0).normal(0, 2**GRID_BITS, (P, 32)).round().astype(np.int64)
    seen: list[torch.Tensor] = []
    optimizer = NoisyOptimizer(vectors, tuning(sigma, clip=clip), denominator, Fixed(noise))
    optimizer.attach_step_hook(lambda _: seen.append(vectors.grad.clone()))  # type: ignore[union-attr]
    noisy_step(model, data, range(6), whole(vectors), optimizer)
    grid = sigma * clip / 2**GRID_BITS
    expected = (clipped + torch.from_numpy(noise) * grid) / denominator
    assert (seen[0].double() - expected).abs().max() <= 6 * grid / denominator


@pytest.mark.promise("sampling")
def test_tuning_takes_exactly_the_steps_that_were_paid_for(model: LanguageModel, tiny_task: Task) -> None:
    counted = Counting()
    records = PrivateRecords(TEXTS, LABELS)
    start = model.text_prompt(tiny_task.init_text, P)
    done: list[tuple[int, int]] = []
    tuned = tune(
        model, records, tiny_task, start, tuning(1.0, rate=0.05, steps=7),
        declared_units=6, randomness=counted, on_step=lambda *step: done.append(step),
    )  # fmt: skip
    assert (counted.noises, counted.samples) == (7, 7)
    assert done == [(k, 7) for k in range(1, 8)]
    assert tuned.model == start.model
    assert not torch.equal(tuned.vectors, start.vectors)


@pytest.mark.promise("sampling")
def test_steps_without_records_learn_nothing_from_any(model: LanguageModel, tiny_task: Task) -> None:
    """A record drawn to fill an empty batch would be in it with certainty."""
    records, start = PrivateRecords(TEXTS, LABELS), model.text_prompt(tiny_task.init_text, P)
    tuned = tune(
        model, records, tiny_task, start, tuning(1.0, rate=0.5, steps=3),
        declared_units=6, randomness=Nobody(),
    )  # fmt: skip
    assert torch.equal(tuned.vectors, start.vectors)


def test_a_prompt_with_a_single_number_that_is_none_is_not_released(
    model: LanguageModel, tiny_task: Task
) -> None:
    noise = np.zeros((P, 32), dtype=np.int64)
    noise[1, 2] = 2**62
    start = model.text_prompt(tiny_task.init_text, P)
    asked = Tuning(Spend(1.0, 1.0, 1), 0.05, 1.0, "sgd")
    object.__setattr__(
        asked, "learning_rate", 1e30
    )  # nobody may ask for it; the last line holds all the same
    with pytest.raises(PromptferryError, match="tuning diverged; ask for a lower learning rate"):
        tune(
            model, PrivateRecords(TEXTS, LABELS), tiny_task, start, asked,
            declared_units=6, randomness=Fixed(noise),
        )  # fmt: skip


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_the_step_size_falls_linearly_to_nothing(
    model: LanguageModel, tiny_task: Task, optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def step(self: torch.optim.Optimizer) -> None:
        seen.append(self.param_groups[0]["lr"])

    monkeypatch.setattr(OPTIMIZERS[optimizer], "step", step)
    records, start = PrivateRecords(TEXTS, LABELS), model.text_prompt(tiny_task.init_text, P)
    asked = replace(tuning(1.0, steps=4), optimizer=optimizer)
    tune(model, records, tiny_task, start, asked, declared_units=6, randomness=NoiseSource())
    assert seen == pytest.approx([asked.learning_rate * share for share in (1, 0.75, 0.5, 0.25)])


@pytest.mark.parametrize("axes", [None, subspace(3)], ids=["whole", "subspace"])
def test_sgd_goes_from_its_start_by_learning_rate_times_noised_mean(
    model: LanguageModel, data: LabelledLines, tiny_task: Task, axes: Subspace | None
) -> None:
    """Two steps, the second half as long and along the gradients where the first one ended."""
    sigma, clip, declared, rate = 0.5, 0.05, 9, 20.0
    basis = torch.eye(P * 32) if axes is None else axes.directions.flatten(1)
    drawn = np.random.default_rng(0).normal(0, 2**GRID_BITS, len(basis)).round().astype(np.int64)
    start = model.text_prompt(tiny_task.init_text, P)
    expected = start.vectors.clone()
    for share in (1.0, 0.5):
        rows = torch.stack([looped(model, data, index, expected).flatten() for index in range(6)]) @ basis.T
        clipped = (rows * (clip / rows.norm(dim=1, keepdim=True)).clamp(max=1)).sum(0)
        noised = (clipped + sigma * clip * torch.from_numpy(drawn).float() / 2**GRID_BITS) / declared
        expected -= rate * share * (noised @ basis).view(P, 32)
    asked = Tuning(Spend(sigma, 1.0, 2), clip, rate, "sgd")
    noise = Fixed(drawn.reshape(P, 32) if axes is None else drawn)
    tuned = tune(
        model, PrivateRecords(TEXTS, LABELS), tiny_task, start, asked,
        declared_units=declared, randomness=noise, subspace=axes,
    )  # fmt: skip
    assert (expected - start.vectors).abs().max() > 1e-2
    torch.testing.assert_close(tuned.vectors, expected, rtol=0, atol=1e-5)


def test_without_noise_tuning_learns_the_labels(model: LanguageModel, tiny_task: Task) -> None:
    records = PrivateRecords(TEXTS, LABELS)
    start = model.text_prompt(tiny_task.init_text, P)
    data = LabelledLines(
        model.encoder(tiny_task).encode(TEXTS), torch.tensor(LABELS), model.encoder(tiny_task).words
    )

    def mean_loss(vectors: torch.Tensor) -> float:
        batch = model.collate(data.lines)
        logits = label_logits(model.logits(batch, vectors.expand(len(batch), -1, -1)), data.words)
        return label_loss(logits, data.labels).mean().item()

    plan = Tuning(Spend(0.0, 1.0, 60), clip_norm=1.0, learning_rate=0.03)
    tuned = tune(model, records, tiny_task, start, plan, declared_units=6, randomness=NoiseSource())
    assert mean_loss(tuned.vectors) < mean_loss(start.vectors)


@pytest.mark.promise("sampling")
def test_the_denominator_is_declared_not_counted(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    """Dividing by the actual batch would publish the batch's size."""
    grads = []
    for included in ([0], [0, 1, 2, 3, 4, 5]):
        parameter = copy.deepcopy(vectors)
        optimizer = NoisyOptimizer(parameter, tuning(1.0, clip=1e-6), 10.0, Silent())
        optimizer.attach_step_hook(lambda _, p=parameter: grads.append(p.grad.norm().item()))
        noisy_step(model, data, included, whole(parameter), optimizer)
    assert grads[0] == pytest.approx(1e-7, rel=0.1), "one clipped record over the declared ten"


def test_in_a_subspace_only_its_coordinates_are_clipped_and_noised(
    model: LanguageModel, data: LabelledLines, vectors: nn.Parameter
) -> None:
    axes, sigma = subspace(3), 2.0
    rows = torch.stack([looped(model, data, index, vectors).flatten() for index in range(6)])
    inside = (rows @ axes.directions.flatten(1).T).double()  # [6, 3]
    clip = inside.norm(dim=1).median().item()  # after the projection: half the records are clipped
    noise = np.array([5 << GRID_BITS, -(2 << GRID_BITS), 1 << GRID_BITS])
    tuned = Tuned(vectors.detach(), axes)
    optimizer = NoisyOptimizer(tuned.parameter, tuning(sigma, clip=clip), 10.0, Fixed(noise))
    seen: list[torch.Tensor] = []
    optimizer.attach_step_hook(lambda _: seen.append(tuned.parameter.grad.clone()))
    noisy_step(model, data, range(6), tuned, optimizer)
    clipped = inside * (clip / inside.norm(dim=1, keepdim=True)).clamp(max=1)
    expected = (clipped.sum(0) + torch.tensor([5.0, -2.0, 1.0]).double() * sigma * clip) / 10
    assert relative_error(seen[0].double(), expected) <= 1e-4


def test_tuning_in_a_subspace_moves_nowhere_else(model: LanguageModel, tiny_task: Task) -> None:
    axes = subspace(3)
    start = model.text_prompt(tiny_task.init_text, P)
    tuned = tune(
        model, PrivateRecords(TEXTS, LABELS), tiny_task, start, tuning(1.0, rate=0.5, steps=5),
        declared_units=6, randomness=NoiseSource(), subspace=axes,
    )  # fmt: skip
    update = (tuned.vectors - start.vectors).unsqueeze(0)
    assert update.norm() > 1e-3
    torch.testing.assert_close(axes.vectors(axes.coordinates(update)[0]), update[0], atol=1e-6, rtol=0)


class HookedPrompt(nn.Module):
    """The same prompt as a module with a registered per-record gradient: the second oracle."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return self.vectors.unsqueeze(0).expand(len(index), -1, -1).clone()


@register_grad_sampler(HookedPrompt)
def _hooked_gradients(
    layer: HookedPrompt, _activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    return {layer.vectors: backprops}


class Fixed:
    """Every record takes part and the noise is given."""

    def __init__(self, noise: NDArray[np.int64]) -> None:
        self.noise = noise

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        assert shape == self.noise.shape
        return self.noise

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        return np.ones(n, dtype=np.bool_)


class Silent:
    """Every record takes part and the noise is zero."""

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return np.zeros(shape, dtype=np.int64)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        return np.ones(n, dtype=np.bool_)


class Nobody(Silent):
    """No record takes part and the noise is zero."""

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        return np.zeros(n, dtype=np.bool_)


class Counting:
    """The real source, counted."""

    def __init__(self) -> None:
        self.noises = self.samples = 0
        self.source = NoiseSource()

    def integers(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        self.noises += 1
        return self.source.integers(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        self.samples += 1
        return self.source.bernoulli(n, rate)
