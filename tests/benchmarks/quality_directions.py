"""What a prompt may move in under noise: the product's public directions, and those it is compared with."""

from collections.abc import Sequence

import torch

from tests.benchmarks.quality_recipe import Directions, Recipe
from transfer.models.language_model import LanguageModel
from transfer.models.public_directions import public_subspace
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace
from transfer.tasks import Task


def subspace(
    recipe: Recipe, model: LanguageModel, task: Task, public: Sequence[str], prompt: SoftPrompt, seed: int
) -> Subspace | None:
    """The directions of a recipe for one round from `prompt`; None for the whole prompt."""
    if not recipe.dimensions:
        return None
    if recipe.directions == "public":
        return public_subspace(model, task, public, prompt, recipe.dimensions, seed)
    return Subspace(UNLEARNT[recipe.directions](prompt.vectors.shape, recipe.dimensions, seed))


def random_directions(shape: torch.Size, dimensions: int, seed: int) -> torch.Tensor:
    """[D, P, H] orthonormal and uniformly random, as in intrinsic dimension (Li et al. 2018,
    https://arxiv.org/abs/1804.08838)."""
    return _orthonormal(dimensions, shape.numel(), seed).reshape(-1, *shape)


def low_rank(shape: torch.Size, dimensions: int, seed: int) -> torch.Tensor:
    """[P·r, P, H]: the change of a prompt is A·B with B [r, H] random and fixed, r = D / P rounded up."""
    length, width = shape
    factor = _orthonormal(-(-dimensions // length), width, seed)
    return torch.einsum("pq,rh->prqh", torch.eye(length), factor).reshape(-1, length, width)


UNLEARNT = {"random": random_directions, "low-rank": low_rank}
assert {"public", *UNLEARNT} == set(Directions.__args__)


def _orthonormal(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator)).Q.T.contiguous()
