"""The weights of a checkpoint as a model of transformers, with a language-model head if the checkpoint has one."""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES
from transformers.utils import logging

from transfer.errors import ModelError
from transfer.model_ref import LmHead

FACTORIES = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "none": AutoModel}
POOLER = "pooler."


def pretrained(source: str | Path, lm_head: LmHead | None) -> tuple[PreTrainedModel, LmHead]:
    """The model in float32 and its LM head: the one asked for, or what the configuration says.

    A configuration may promise a head that was never saved, as those of sentence embedders often do: then all
    of the head is missing and nothing else is, and the backbone is what there is.

    Raises:
        ModelError: a weight is missing.
        OSError, ValueError, KeyError, RuntimeError, SafetensorError: transformers cannot load it.
    """
    kind = lm_head or _promised(AutoConfig.from_pretrained(source, trust_remote_code=False))
    factory: Any = FACTORIES[kind]
    with _without_warnings():
        model, report = factory.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    missing = set(report["missing_keys"])  # transformers would leave them random
    if kind == "none":
        missing = {key for key in missing if not key.startswith(POOLER)}
    elif missing and lm_head is None and _only_head(missing, model):
        model, kind, missing = model.base_model, "none", set()
    if missing:
        raise ModelError(f"{source}: not a whole language model: no weight {min(missing)!r}")
    return without_pooler(model), kind


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its pooler replaced by nothing: no prompt is read through it, and few checkpoints have one.

    Some families call it without asking whether it is there.
    """
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()
    return model


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Transformers calls a head or pooler that was never saved a corrupted checkpoint; here that is told apart."""
    before: int = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _only_head(missing: Set[str], model: PreTrainedModel) -> bool:
    """Whether all weights of the head that are its own are missing, and none of the backbone."""
    backbone = f"{model.base_model_prefix}."
    own = {name for name, _ in model.named_parameters() if not name.startswith(backbone)}
    return own <= missing and not any(key.startswith(backbone) for key in missing)


def _promised(config: Any) -> LmHead:
    """The LM head that a configuration speaks of; encoder-decoders have no one backbone to read."""
    architectures = getattr(config, "architectures", None) or []
    if any("MaskedLM" in name for name in architectures):
        return "masked"
    if any("CausalLM" in name or "LMHead" in name for name in architectures):
        return "causal"
    if not architectures:
        return "causal" if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "masked"
    bare = MODEL_MAPPING_NAMES.get(config.model_type, ())
    bare = (bare,) if isinstance(bare, str) else bare
    whole = not getattr(config, "is_encoder_decoder", False)
    return "none" if whole and set(architectures) & set(bare) else "masked"
