"""A placement in the words of transformers and accelerate, and the devices of a model that they placed."""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from transfer.errors import ModelError
from transfer.placement.quantised import stored_as
from transfer.placement.settings import Placement


def placed(placement: Placement) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that load a model where `placement` says.

    Raises:
        ModelError: this machine has no such device.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast of every pass
    device = _device(placement)
    arguments: dict[str, Any] = {"dtype": _dtype(placement, device)}
    if placement.spread:
        memory = {
            int(name) if name.isdecimal() else name: size for name, size in placement.max_memory.items()
        }
        arguments |= {"device_map": "auto", "max_memory": memory, "offload_folder": placement.offload}
    elif device.type != "cpu" or placement.quantise != "none":
        arguments["device_map"] = {"": device}
    if placement.quantise == "int8":
        arguments["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    if placement.quantise == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=arguments["dtype"]
        )
    return arguments


def chosen_device(placement: Placement) -> torch.device:
    """Return the device of `placement`, which this machine may lack."""
    return _device(placement) if placement.device == "auto" else torch.device(placement.device)


def dtype_of(placement: Placement, stored: torch.dtype) -> torch.dtype:
    """Return what a model `stored` in one dtype computes in at `placement`; this machine may lack the device."""
    dtype = _dtype(placement, chosen_device(placement))
    return dtype if isinstance(dtype, torch.dtype) else stored


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype as settings spell it, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def embedding_of(model: PreTrainedModel) -> torch.Tensor:
    """Return the weights [V, H] of the model's input embeddings."""
    return model.get_input_embeddings().get_parameter("weight")


def device_of(model: PreTrainedModel) -> torch.device:
    """Return the device that takes the model's inputs: that of its input embeddings."""
    return embedding_of(model).device


def require_embeddings(model: PreTrainedModel) -> None:
    """Refuse a model without input embeddings in memory: prompts are written and read there.

    Raises:
        ModelError: the model embeds no tokens, or the placement leaves its embeddings on disk; says how much memory
            they take.
    """
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:  # CLIP's, Wav2Vec2's: there is no one table
        embeddings = None
    weight = getattr(embeddings, "weight", None)  # Perceiver gives a bare parameter, which embeds no token
    if not isinstance(embeddings, nn.Module) or not isinstance(weight, torch.Tensor):
        raise ModelError(
            f"{type(model).__name__} has no embedding of tokens to write a prompt in; take a language model"
        )
    if weight.is_meta:
        least = f"{weight.nbytes / 2**20:.0f} MiB"
        raise ModelError(
            f"max_memory leaves no room for the embeddings, {least}, and for one layer; allow more"
        )


def numbers_of(model: PreTrainedModel) -> str:
    """Return what the model's weights are: "int8", "nf4" or the like where they are quantised, else their dtype."""
    stored = stored_as(model.config) if getattr(model, "is_quantized", False) else None
    return stored or name_of(model.dtype)


def precision(device: torch.device, *, reduced: bool) -> AbstractContextManager[object]:
    """Return a block within which operations run under bf16 autocast, or under none; not every device has one."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=reduced)


def offloaded(model: nn.Module) -> bool:
    """Return whether some weights are read from elsewhere when their layer runs."""
    return any(parameter.is_meta for parameter in model.parameters())


def _device(placement: Placement) -> torch.device:
    if placement.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(placement.device)
    known = {"cpu": 1, "cuda": torch.cuda.device_count(), "xpu": torch.xpu.device_count()}
    count = known.get(device.type, int(torch.backends.mps.is_available()))
    if (device.index or 0) >= count:
        raise ModelError(
            f'device "{placement.device}": PyTorch sees no such device here; write "auto" or "cpu"'
        )
    return device


def _dtype(placement: Placement, device: torch.device) -> torch.dtype | str:
    """Return the dtype of weights and activations; "auto" is transformers' word for the checkpoint's own."""
    if placement.dtype != "auto":
        chosen: torch.dtype = getattr(torch, placement.dtype)
        return chosen
    if placement.quantise != "none":
        return torch.bfloat16
    return torch.float32 if device.type == "cpu" else "auto"
