"""A record's gradient is its own to the last bit, whoever else is in its step, and so is its share of the sum."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from client.private.noise import GRID_BITS, clip_to_grid
from tests.promises import Measured
from tests.transfer.kinds import CAUSAL, MASKED, saved
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.subspace import Subspace
from transfer.tasks import Label, Task

TEXTS = (
    "The film was great.",
    "A terrible plot",
    "We liked the music and the food",
    "good",
    "It was fun.",
    "Nobody liked the noise",
    "The bank raised its rates and the market fell again.",
    "bad",
)
LONGEST = "The match was won in the last minute by a young team and it was fun, great, good and awful."
FAMILIES = [*(set(CAUSAL) - {"xlnet"}), *MASKED]
LONG = {"mixtral", "convbert", "gemma3", "mobilebert", "smollm3", "falcon", "opt"}
"""Those that compute for long; the default run leaves them out."""
KINDS = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in sorted(FAMILIES)]
P = 4


@pytest.fixture(scope="module")
def directories(
    tiny_causal: Path, tiny_masked: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every kind on disk."""
    place = tmp_path_factory.mktemp("kinds")
    return {
        name: saved(name, tiny_causal if name in CAUSAL else tiny_masked, place / name) for name in FAMILIES
    }


def in_dtype(directory: Path, dtype: torch.dtype) -> LanguageModel:
    model = load(directory)
    return replace(model, model=model.model.to(dtype))


def reading(task: Task, how: str) -> Task:
    if how == "head":
        labels = tuple(Label(label.name, ()) for label in task.labels)
        return replace(task, template="{text}", labels=labels, label_reading="head")
    if how == "text":
        return replace(task, labels=(), kind="text", answer_tokens=6)
    if how == "whole":
        labels = (Label("good", ("good", "great evening")), Label("bad", ("weatherfood",)))
        return replace(task, labels=labels, label_reading="whole")
    return task


def data_of(model: LanguageModel, task: Task, texts: tuple[str, ...]) -> LabelledLines:
    encoder = model.encoder(task)
    answers = ["film", "a bad ending", "it"] * 3 if task.kind == "text" else []
    lines = encoder.encode(texts, answers[: len(texts)])
    return LabelledLines(lines, torch.arange(len(lines)) % 2, encoder.words, Passes(160, task.max_tokens))


@pytest.mark.promise("neighbours")
@pytest.mark.parametrize(
    "dtype",
    [pytest.param(torch.float32, id="fp32", marks=pytest.mark.slow), pytest.param(torch.bfloat16, id="bf16")],
)
@pytest.mark.parametrize("name", KINDS)
def test_alone_permuted_and_beside_the_longest_a_gradient_has_the_same_bits(
    directories: dict[str, Path], tiny_task: Task, name: str, dtype: torch.dtype, measured: Measured
) -> None:
    model = in_dtype(directories[name], dtype)
    ways = ["single", "whole", "text"] if model.causal else ["single", "whole"]
    ways += ["head"] if model.traits.width == model.width else []
    for how in ways:
        data = data_of(model, reading(tiny_task, how), (*TEXTS, LONGEST))
        start = model.text_prompt("A sentence about a review", P).longer(2 if how == "head" else 0).vectors
        start = start + 0.01
        alone = torch.cat(
            [per_record_gradients(model, data, [index], start) for index in range(len(data.lines))]
        )
        assert alone.abs().amax(dim=(1, 2)).min() > 0
        largest = 0.0
        for group in ([*range(8, -1, -1)], [3, 8, 0]):
            among = per_record_gradients(model, data, group, start)
            largest = max(largest, (among - alone[group]).abs().max().item())
            assert torch.equal(among, alone[group]), how
        measured(largest_difference=largest)


@pytest.mark.promise("own-step")
@pytest.mark.parametrize("name", KINDS)
def test_one_record_more_moves_the_clipped_sum_of_a_real_step_by_at_most_the_norm(
    directories: dict[str, Path], tiny_task: Task, name: str, measured: Measured
) -> None:
    model, norm = load(directories[name]), 1e-4
    start = model.text_prompt("A sentence about a review", P).vectors
    grid = norm / 2**GRID_BITS

    def total(texts: tuple[str, ...]) -> torch.Tensor:
        data = data_of(model, tiny_task, texts)
        groups = data.batches(range(len(texts)), P)
        return sum(clip_to_grid(per_record_gradients(model, data, one, start), norm, grid) for one in groups)

    without, words = total(TEXTS), LONGEST.split()
    for count in range(1, len(words) + 1, 4):
        moved = (total((*TEXTS, " ".join(words[:count]))) - without).double().norm().item() * grid / norm
        measured(moved_over_C=moved)
        assert 0.9 <= moved <= 1.000001


@pytest.mark.promise("neighbours")
def test_coordinates_in_a_subspace_have_the_same_bits_among_others() -> None:
    draw = torch.Generator().manual_seed(0)
    axes = Subspace(
        torch.linalg.qr(torch.randn(P * 256, 48, generator=draw)).Q.T.reshape(48, P, 256).contiguous()
    )
    gradients = torch.randn(33, P, 256, generator=draw)
    together = axes.coordinates(gradients)
    assert all(torch.equal(axes.coordinates(gradients[[row]])[0], together[row]) for row in range(33))
    assert axes.coordinates(gradients[:0]).shape == (0, 48)
