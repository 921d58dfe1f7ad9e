"""Where a model is, and in what numbers it computes. This module does not import PyTorch."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from transfer.errors import UsageError
from transfer.files.toml import Located, Settings

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantised = Literal["int8", "nf4"]
Quantisation = Literal["none"] | Quantised
Device = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")]
Size = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?\s?([KMGT]i?B)$")]


class Placement(Settings):
    """Where a model is, and in what numbers it computes.

    A prompt does not depend on it: prompts, noise and clipping are float32 or exact on the CPU wherever the model is.

    Attributes:
        device: "auto" is the first GPU, or the CPU if there is none; else a device of PyTorch, such as "cuda:1".
        dtype: "auto" is the checkpoint's own on a GPU, float32 on a CPU, and bfloat16 between quantised weights.
        quantise: bitsandbytes' weights of 8 bits (LLM.int8, Dettmers et al. 2022) or 4 bits (NF4, QLoRA, Dettmers et
            al. 2023), made while loading.
        max_memory: memory for weights on each GPU, by number, and on the "cpu", such as "70GiB". Layers are then
            spread over these in order, and what does not fit goes to `offload`.
        offload: directory for layers that fit into no memory; each is read when it runs.
        checkpointing: recompute a layer's activations in the backward pass. By default where layers are offloaded, as
            their weights would otherwise be kept for the backward pass.
    """

    called = "placement"
    device: Device = "auto"
    dtype: Dtype = "auto"
    quantise: Quantisation = "none"
    max_memory: Mapping[str, Size] = Field(default_factory=dict)
    offload: Located | None = None
    checkpointing: bool | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Placement":
        for name in self.max_memory:
            if name != "cpu" and not name.isdecimal():
                raise UsageError(f'max_memory {name!r} must be the number of a GPU, or "cpu"')
        if self.offload is not None and not self.max_memory:
            raise UsageError('offload needs max_memory, such as { "0" = "70GiB", cpu = "100GiB" }')
        if self.quantise == "int8" and self.dtype == "float32":
            raise UsageError('int8 weights are multiplied in 16 bits; leave dtype out, or choose "bfloat16"')
        return self

    @property
    def spread(self) -> bool:
        """Whether layers may be on several devices."""
        return bool(self.max_memory)

    @property
    def beside(self) -> "Placement":
        """Where a proxy of a model placed so is: on its device, in its dtype, whole and not quantised."""
        return Placement(device=self.device, dtype=self.dtype)

    def require_whole(self) -> None:
        """Refuse quantised weights where a proxy is to be cut, before anything is loaded.

        Raises:
            UsageError: the weights are quantised.
        """
        if self.quantise != "none":
            raise UsageError(
                f"no proxy can be cut from {self.quantise} weights; distil with --quantise none, and with "
                "--max-memory if the target is too large"
            )

    def twin(self, quantise: Quantised) -> "Placement":
        """Where a quantised twin of a model placed so is: in its place, with the usual numbers between weights."""
        return self.model_copy(update={"quantise": quantise, "dtype": "auto"})


HERE = Placement()
"""The placement of a model whose owner chose none."""


def makeable(twins: Sequence[str]) -> tuple[Quantised, ...]:
    """Return the names of quantised twins that can be made here; without names nothing is checked.

    Raises:
        UsageError: there is no such twin, or bitsandbytes is not installed.
    """
    known: tuple[Quantised, ...] = get_args(Quantised)
    for name in twins:
        if name not in known:
            raise UsageError(f"twin {name!r} must be one of {', '.join(known)}")
    if twins and find_spec("bitsandbytes") is None:
        raise UsageError("int8 and nf4 need bitsandbytes: pip install promptferry[quantised]")
    return tuple(name for name in known if name in twins)
