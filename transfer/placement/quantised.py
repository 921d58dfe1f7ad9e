"""Checkpoints whose weights were quantised before they were saved: which are read, and what their weights are."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from transfer.errors import ModelError
from transfer.placement.settings import Placement

NEEDED = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
}
"""Methods whose weights let a gradient through, and the packages that transformers reads them with."""


def stored_as(config: PretrainedConfig) -> str | None:
    """Return what a checkpoint's weights were quantised to, "int8", "nf4", "fp4" or a method's name; None if not."""
    settings = _settings(config)
    if not settings:
        return None
    method = settings.get("quant_method")
    method = str(getattr(method, "value", method) or "an unnamed method")
    if settings.get("load_in_8bit"):
        return "int8"
    if settings.get("load_in_4bit"):
        return str(settings.get("bnb_4bit_quant_type") or "fp4")
    return method


def readable(config: PretrainedConfig, placement: Placement, source: str | Path) -> Placement:
    """Return the placement to load a checkpoint with: `placement`, but nothing is quantised a second time.

    Raises:
        ModelError: its weights were quantised by a method, or to numbers, that are not read at `placement`; names
            `source`, the key and what to do.
    """
    kind = stored_as(config)
    if kind is None:
        return placement
    method = "bitsandbytes" if kind in ("int8", "nf4", "fp4") else kind
    if method not in NEEDED:
        raise ModelError(
            f"{source}: config.json has a quantization_config of {kind}, whose weights are not read here; take the "
            'checkpoint that is not quantised, with quantise = "nf4" or "int8" if it is too large'
        )
    if missing := [name for name in NEEDED[method] if find_spec(name) is None]:
        raise ModelError(
            f"{source}: its weights were quantised by {method}, which needs {' and '.join(missing)}: "
            f"pip install {' '.join(missing)}, or take the checkpoint that is not quantised"
        )
    if placement.quantise not in ("none", kind):
        raise ModelError(
            f"{source}: its weights are {kind} already, and cannot become {placement.quantise}; leave quantise out, "
            "or take the checkpoint that is not quantised"
        )
    stored = str(getattr(config, "dtype", None)).removeprefix("torch.")
    if placement.dtype not in ("auto", stored):  # transformers would leave it as it is, and say nothing
        raise ModelError(f"{source}: its {kind} weights compute in {stored}; leave dtype out")
    return placement.model_copy(update={"quantise": "none"})


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """Keep bitsandbytes from packing 4-bit weights anew at the first pass without gradients, and return the model.

    It does so on processors with AVX512-BF16 alone: with scales in bfloat16, so that answers would depend on the
    machine and on what was asked before, and only in matrices of some sizes, failing in others.
    """
    for module in model.modules():
        if hasattr(module, name := "support_avx512bf16_for_cpu"):
            setattr(module, name, False)
    return model


def _settings(config: PretrainedConfig) -> Mapping[str, Any]:
    found = getattr(config, "quantization_config", None) or {}
    return found if isinstance(found, Mapping) else found.to_dict()
