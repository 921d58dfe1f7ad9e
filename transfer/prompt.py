"""Soft prompts: vectors [P, H] that stand before the token embeddings of one exact model.

P prompt tokens, H hidden size. Method: Lester et al. 2021 (https://arxiv.org/abs/2104.08691).

A prompt travels as a safetensors file with the single tensor `prompt_embeddings`, which PEFT loads. The file has no
metadata, because safetensors writes metadata in random order and equal prompts must give equal bytes.

If a linear head reads the task (`Task.head_rows`), its rows stand behind the prompt's in the same tensor. Both are
thus tuned, clipped, noised, averaged and signed as one. Only the files of `transfer.peft_directory` separate them.
"""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from transfer.errors import VerificationError
from transfer.model_ref import ModelRef

TENSOR_KEY = "prompt_embeddings"
MAX_BYTES = 16 * 2**20
"""Size limit of a serialised prompt, in bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftPrompt:
    """Vectors [P, H] for one model: float32, on the CPU, outside any graph, finite.

    Raises:
        VerificationError: the vectors are not such a tensor.
    """

    vectors: torch.Tensor
    model: ModelRef

    def __post_init__(self) -> None:
        vectors = self.vectors
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise VerificationError(f"prompt has shape {list(vectors.shape)}, expected [P, H]")
        if vectors.dtype != torch.float32 or vectors.device.type != "cpu" or vectors.requires_grad:
            raise VerificationError(
                f"prompt is {vectors.dtype} on {vectors.device}, expected detached float32 on cpu"
            )
        if not torch.isfinite(vectors).all():
            raise VerificationError("prompt holds NaN or infinite values; all must be finite")

    @property
    def length(self) -> int:
        """P, the number of prompt tokens."""
        return self.vectors.shape[0]

    @property
    def width(self) -> int:
        """H, the hidden size."""
        return self.vectors.shape[1]

    def longer(self, rows: int) -> "SoftPrompt":
        """Return the prompt with `rows` ≥ 0 rows of zeros behind it: a head that prefers no class yet."""
        return SoftPrompt(torch.cat([self.vectors, torch.zeros(rows, self.width)]), self.model)

    def to_bytes(self, key: str = TENSOR_KEY) -> bytes:
        """Serialise as a safetensors file; equal prompts give equal bytes."""
        return save_safetensors({key: self.vectors.contiguous()})

    @staticmethod
    def from_bytes(data: bytes, model: ModelRef, key: str = TENSOR_KEY) -> "SoftPrompt":
        """Parse what `to_bytes` wrote, and refuse anything else.

        Raises:
            VerificationError: `data` is too large, is not safetensors, has other tensors, or is not finite float32
                [P, H].
        """
        if len(data) > MAX_BYTES:
            raise VerificationError(f"prompt of {len(data)} bytes exceeds {MAX_BYTES}")
        try:
            tensors = load_safetensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise VerificationError(f"prompt is not a safetensors file: {error}") from error
        if set(tensors) != {key}:
            raise VerificationError(f"prompt file holds {sorted(tensors)}, expected only {key!r}")
        return SoftPrompt(tensors[key].clone(), model)
