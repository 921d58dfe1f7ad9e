"""The weights of a checkpoint as a model of transformers, with a language-model head if the checkpoint has one.

Nothing here asks the network: what is not in a directory must be in the local cache.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers.utils import logging

from transfer.errors import ModelError, PromptferryError
from transfer.model_ref import LmHead

FACTORIES = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "none": AutoModel}
POOLER = "pooler."
LONGEST_REASON = 300


def pretrained(directory: Path, lm_head: LmHead | None, source: str | Path) -> tuple[PreTrainedModel, LmHead]:
    """The model in float32 and its LM head: the one asked for, or what the configuration says.

    A configuration may promise a head that was never saved, as those of sentence embedders often do: then all
    of the head is missing and nothing else is, and the backbone is what there is.

    Raises:
        ModelError: names `source`: a weight is missing, transformers cannot load it, or it is an encoder-decoder.
    """
    with one_line(f"{source}: cannot load a language model"):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        kind = lm_head or _promised(config)
        factory: Any = FACTORIES[kind]
        model, report = factory.from_pretrained(
            directory,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    missing = set(report["missing_keys"])  # transformers would leave them random
    if kind == "none":
        missing = {key for key in missing if not key.startswith(POOLER)}
    elif missing and lm_head is None and _only_head(missing, model):
        model, kind, missing = model.base_model, "none", set()
    if missing:
        raise ModelError(f"{source}: not a whole language model: no weight {min(missing)!r}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source}: cannot load a language model: {type(model).__name__} is an encoder-decoder, with no one line "
            "to put a prompt before; take a causal or a masked language model"
        )
    if getattr(model.config, "attention_type", "") == "block_sparse":
        raise ModelError(
            f"{source}: cannot load a language model: with attention_type block_sparse {type(model).__name__} turns "
            'into another model at its first short line, for good; write "attention_type": "original_full" there'
        )
    model.config.return_dict = True  # a configuration may say otherwise
    return without_pooler(model), kind


def tokenizer_of(directory: Path, source: str | Path) -> PreTrainedTokenizerBase:
    """Its fast tokeniser.

    Raises:
        ModelError: names `source`: there is none, or it cannot be loaded.
    """
    with one_line(f"{source}: cannot load a language model"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: needs a fast tokeniser (tokenizer.json)")
    return tokenizer


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its pooler replaced by nothing: no prompt is read through it, and few checkpoints have one.

    Some families call it without asking whether it is there.
    """
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()
    return model


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Whatever transformers raises is a ModelError of one line, `what` and then why, and nothing else is printed.

    It calls a head or pooler that was never saved a corrupted checkpoint; here that is told apart.
    """
    before: int = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except (PromptferryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a configuration may hold anything; a panic in Rust is no Exception
        raise ModelError(f"{what}: {reason_of(error)}") from error
    finally:
        logging.set_verbosity(before)


def reason_of(error: BaseException) -> str:
    """What an error of somebody else's code says, in one line of at most `LONGEST_REASON` characters."""
    told = " ".join(str(error).split()) or "no reason given"
    told = told if len(told) <= LONGEST_REASON else f"{told[: LONGEST_REASON - 1]}…"
    return told if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {told}"


def _only_head(missing: Set[str], model: PreTrainedModel) -> bool:
    """Whether all weights of the head that are its own are missing, and none of the backbone."""
    backbone = f"{model.base_model_prefix}."
    own = {name for name, _ in model.named_parameters() if not name.startswith(backbone)}
    return own <= missing and not any(key.startswith(backbone) for key in missing)


def _promised(config: Any) -> LmHead:
    """The LM head that a configuration speaks of."""
    architectures = set(getattr(config, "architectures", None) or [])
    masked, causal, bare = (
        architectures & _names(mapping, config.model_type)
        for mapping in (
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_MAPPING_NAMES,
        )
    )
    if masked and causal:  # XLM and its kind: one class for both
        return "causal" if getattr(config, "causal", False) else "masked"
    if not architectures:
        return "causal" if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "masked"
    if causal or any("CausalLM" in name or "LMHead" in name for name in architectures):
        return "causal"
    return "none" if bare and not masked else "masked"


def _names(mapping: Mapping[str, Any], model_type: str) -> set[str]:
    found = mapping.get(model_type, ())
    return {found} if isinstance(found, str) else set(found)
