"""The few directions a prompt's gradient moves in, computed on public text alone.

The noise of DP-SGD grows with the square root of the number of tuned coordinates. Almost all of a prompt's gradient
lies in a few directions that public text shares (gradient embedding: Yu et al. 2021,
https://arxiv.org/abs/2102.12677; Zhou et al. 2021, https://arxiv.org/abs/2007.03813). A client that tunes
coordinates in these directions clips and noises D numbers instead of P·H. The guarantee does not depend on the
directions: a record's coordinates are clipped like any gradient, and everything computed from the noised sum is
post-processing.

Letters: D directions, B records, P prompt tokens, H hidden size, C classes.
"""

from dataclasses import dataclass

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from transfer.errors import UsageError

_TENSOR = "directions"


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """`directions` [D, P, H], float32, meant to be orthonormal as vectors of P·H numbers.

    Construction does not check that they are orthonormal; `require_orthonormal` does.

    Raises:
        UsageError: the tensor is not [D, P, H] with 1 ≤ D ≤ P·H, not float32 or not finite.
    """

    directions: torch.Tensor

    def __post_init__(self) -> None:
        shape = self.directions.shape
        if len(shape) != 3 or not 1 <= shape[0] <= shape[1] * shape[2]:
            raise UsageError(f"subspace directions {list(shape)} must be [D, P, H] with 1 ≤ D ≤ P·H")
        if self.directions.dtype != torch.float32 or not torch.isfinite(self.directions).all():
            raise UsageError(f"subspace directions in {self.directions.dtype} must be finite float32")

    def require_orthonormal(self) -> None:
        """Refuse directions in which a step would be longer or shorter than its coordinates.

        Raises:
            UsageError: they are not orthonormal within 1e-3.
        """
        basis = self.directions.flatten(1).double()  # [D, P·H]
        off = (basis @ basis.T - torch.eye(self.dimensions, dtype=torch.float64)).abs().max().item()
        if not off <= 1e-3:
            raise UsageError(
                f"subspace directions are {off:.2g} off orthonormal, 0.001 is allowed; make them again"
            )

    @property
    def dimensions(self) -> int:
        """D, the number of directions."""
        return int(self.directions.shape[0])

    def coordinates(self, gradients: torch.Tensor) -> torch.Tensor:
        """Return gradients [B, P, H] as coordinates [B, D], dropping what lies outside the subspace.

        Guarantee:
            A row's coordinates have the same bits whatever the other rows are, and however many. Each row is a
            product of its own, from memory of its own.

        Edge cases:
            No gradients, [0, P, H], give [0, D]. Coordinates are not clipped: with directions that are not
            orthonormal their norm may exceed the gradient's, so clip afterwards. NaN and infinity are passed on.
        """
        basis = self.directions.flatten(1)  # [D, P·H]
        # one product and one copy per row: a batched product rounds by its shape, which depends on B
        rows = [basis @ gradient.flatten().clone() for gradient in gradients]
        return torch.stack(rows) if rows else gradients.new_zeros(0, self.dimensions)

    def vectors(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the change [P, H] of a prompt for coordinates [D]."""
        return torch.einsum("d,dph->ph", coordinates, self.directions)

    def to_bytes(self) -> bytes:
        """Serialise as a safetensors file with one tensor."""
        return save_tensors({_TENSOR: self.directions.contiguous()})

    @staticmethod
    def from_bytes(data: bytes) -> "Subspace":
        """Read what `to_bytes` wrote.

        Raises:
            UsageError: `data` is anything else.
        """
        try:
            tensors = load_tensors(data)
        except Exception as error:  # safetensors raises its own and several built-in kinds
            raise UsageError(f"subspace is not a safetensors file: {error}") from error
        if set(tensors) != {_TENSOR}:
            raise UsageError(f"subspace file has tensors {sorted(tensors)}, expected one tensor {_TENSOR!r}")
        return Subspace(tensors[_TENSOR])
