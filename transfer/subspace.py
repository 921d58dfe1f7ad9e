"""The few directions a prompt's gradient moves in, learnt from public text alone.

The noise of DP-SGD grows with the square root of the number of tuned coordinates, and almost all of a prompt's
gradient lies in a few directions that public text shares (gradient embedding: Yu et al. 2021,
https://arxiv.org/abs/2102.12677; Zhou et al. 2021, https://arxiv.org/abs/2007.03813). A client that tunes
coordinates in these directions clips and noises D numbers instead of P·H. The guarantee does not depend on the
directions: a record's coordinates are clipped like any gradient, and what is made of the noised sum is
post-processing.

Letters: D directions, B records, P prompt tokens, H hidden size, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from transfer.errors import UsageError
from transfer.gradients import LabelledLines, per_record_gradients
from transfer.models import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

PUBLIC_TEXTS = 600
"""Texts looked at: many times the directions, and still one quick pass over the proxy."""

_TENSOR = "directions"


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """`directions` [D, P, H], float32, orthonormal as vectors of P·H numbers.

    Raises:
        UsageError: not three dimensions, not finite, or more directions than numbers.
    """

    directions: torch.Tensor

    def __post_init__(self) -> None:
        shape = self.directions.shape
        if len(shape) != 3 or not 1 <= shape[0] <= shape[1] * shape[2]:
            raise UsageError(f"subspace directions {list(shape)} are not [D, P, H] with 1 ≤ D ≤ P·H")
        if self.directions.dtype != torch.float32 or not torch.isfinite(self.directions).all():
            raise UsageError("subspace directions must be finite float32")

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.directions.shape[0])

    def coordinates(self, gradients: torch.Tensor) -> torch.Tensor:
        """Gradients [B, P, H] as coordinates [B, D]; what lies outside the subspace is dropped."""
        return gradients.flatten(1) @ self.directions.flatten(1).T

    def vectors(self, coordinates: torch.Tensor) -> torch.Tensor:
        """The change [P, H] of a prompt that coordinates [D] stand for."""
        return torch.einsum("d,dph->ph", coordinates, self.directions)

    def to_bytes(self) -> bytes:
        """A safetensors file with one tensor."""
        return save_tensors({_TENSOR: self.directions.contiguous()})

    @staticmethod
    def from_bytes(data: bytes) -> "Subspace":
        """Read what `to_bytes` wrote.

        Raises:
            UsageError: anything else.
        """
        try:
            tensors = load_tensors(data)
        except Exception as error:  # safetensors raises its own and several built-in kinds
            raise UsageError(f"subspace is not a safetensors file: {error}") from error
        if set(tensors) != {_TENSOR}:
            raise UsageError(f"subspace holds {sorted(tensors)}, expected one tensor {_TENSOR!r}")
        return Subspace(tensors[_TENSOR])


def public_subspace(
    model: LanguageModel, task: Task, texts: Sequence[str], prompt: SoftPrompt, dimensions: int, seed: int
) -> Subspace:
    """The first `dimensions` principal directions of the label loss's gradient at `prompt` on public `texts`.

    Labels are drawn at random: which way a gradient points is not asked, only along which line. D is less than
    asked where the texts or the prompt have fewer directions.

    Raises:
        UsageError: no texts, no labels, or `dimensions` is not ≥ 1.
        TaskError: the label words do not fit the model's tokeniser.
    """
    if dimensions < 1 or not texts:
        raise UsageError(f"{dimensions} directions of {len(texts)} texts: both must be ≥ 1")
    if not task.labels:
        raise UsageError(f"task {task.name!r} has no labels to learn directions from")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(texts), generator=generator)[:PUBLIC_TEXTS].tolist()
    encoder = model.encoder(task)
    lines = encoder.encode([texts[index] for index in chosen])
    labels = torch.randint(len(task.labels), (len(lines),), generator=generator)
    data = LabelledLines(lines, labels, encoder.words)
    gradients = prompt.vectors.new_empty((len(lines), *prompt.vectors.shape))  # [N, P, H]
    for group in data.batches(range(len(lines)), prompt.length):
        gradients[group] = per_record_gradients(model, data, group, prompt.vectors)
    found = torch.linalg.svd(gradients.flatten(1), full_matrices=False).Vh[:dimensions]  # [D, P·H]
    return Subspace(found.reshape(-1, *prompt.vectors.shape).contiguous())
