"""The weights of a cut: whose memory they use, and the type in which they are stored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import align_module_device
from transformers import PreTrainedModel

from transfer.errors import ModelError
from transfer.models.language_model import LanguageModel
from transfer.placement.devices import numbers_of, offloaded


def stored_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the type of a model's weights in its directory, which it may not have in memory.

    A cut has that of the target, whose directory its configuration still names.
    """
    if not model.name_or_path:  # a model that was made in memory
        return model.dtype
    try:
        config = json.loads((Path(model.name_or_path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the directory is gone
        return model.dtype
    kind = getattr(torch, str(config.get("dtype", config.get("torch_dtype"))), None)
    return kind if isinstance(kind, torch.dtype) else model.dtype


def round_as_stored(model: PreTrainedModel) -> None:
    """Give weights the values they will have in their file, and leave their type."""
    loaded = model.dtype
    convert(model, stored_dtype(model))
    convert(model, loaded)


def share_frozen(copied: PreTrainedModel, target: PreTrainedModel) -> None:
    """Let frozen embeddings and head of a cut use the target's memory, of which they are a copy."""
    for side in ("get_input_embeddings", "get_output_embeddings"):
        ours, theirs = getattr(copied, side)(), getattr(target, side)()
        if ours is None:
            continue
        for weight, original in zip(ours.parameters(), theirs.parameters(), strict=True):
            same = (weight.dtype, weight.device) == (original.dtype, original.device)
            if same and not weight.requires_grad:
                weight.data = original.data  # a parameter of its own: moving it leaves the target's in place


@contextmanager
def uncached(*models: PreTrainedModel) -> Iterator[None]:
    """Within the block, no pass keeps keys and values for later tokens: nobody reads them."""
    before = [getattr(model.config, "use_cache", None) for model in models]
    for model in models:
        model.config.use_cache = False
    try:
        yield
    finally:
        for model, value in zip(models, before, strict=True):
            model.config.use_cache = value


def convert(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Convert a model's weights to `dtype` one by one, and no buffers: a rounded table of rotations would stay so."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)  # a tensor of its own if anything changes


def state_of(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a model by name; those of a layer on disk are read one module at a time."""
    if not offloaded(model):
        yield from model.state_dict().items()
        return
    for name, module in model.named_modules():
        own = [key for key in module.state_dict() if "." not in key]
        with align_module_device(module):
            yield from ((f"{name}.{key}", getattr(module, key).detach().clone()) for key in own)


def require_whole(target: LanguageModel) -> None:
    """Refuse a quantised target: its layers cannot be trained, and a proxy is stored as the target is.

    Raises:
        ModelError: the target is quantised.
    """
    if getattr(target.model, "is_quantized", False):
        raise ModelError(
            f"model {target.ref.name!r} is loaded as {numbers_of(target.model)}, and no proxy can be cut from "
            "quantised weights; distil from those that are not, with --max-memory if the target is too large"
        )
