import pytest
import torch

from tests.transfer.subspaces import found
from transfer.errors import UsageError
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace


@pytest.fixture
def start(model, tiny_task):
    return model.text_prompt(tiny_task.init_text, 3)


def test_coordinates_and_vectors_undo_each_other(model, tiny_task, start):
    axes = found(model, tiny_task, start)
    inside = torch.tensor([1.0, -2.0, 0.5, 3.0])
    torch.testing.assert_close(axes.coordinates(axes.vectors(inside).unsqueeze(0))[0], inside)


def test_a_subspace_survives_its_bytes(model, tiny_task, start):
    axes = found(model, tiny_task, start)
    assert torch.equal(Subspace.from_bytes(axes.to_bytes()).directions, axes.directions)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nothing", "not a safetensors file"),
        (lambda ref: SoftPrompt(torch.ones(2, 3), ref).to_bytes(), "expected one tensor"),
    ],
)
def test_other_bytes_are_refused(model, data, words):
    with pytest.raises(UsageError, match=words):
        Subspace.from_bytes(data(model.ref) if callable(data) else data)


@pytest.mark.parametrize(
    ("directions", "words"),
    [
        (torch.ones(2, 3), "must be"),
        (torch.ones(7, 2, 3), "1 ≤ D ≤ P·H"),
        (torch.full((1, 2, 3), float("nan")), "finite"),
        (torch.ones(1, 2, 3, dtype=torch.float64), "float32"),
    ],
)
def test_impossible_directions_are_refused(directions, words):
    with pytest.raises(UsageError, match=words):
        Subspace(directions)
