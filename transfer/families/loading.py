"""The weights of a checkpoint as a model of transformers, with a language-model head if the checkpoint has one.

This module never uses the network: a model is in a directory or in the local cache.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
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
from transfer.families.model_directory import require_covered, require_versions_beside
from transfer.model_ref import LmHead
from transfer.placement.devices import placed
from transfer.placement.quantised import readable, unpacked
from transfer.placement.settings import HERE, Placement

FACTORIES = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "none": AutoModel}
POOLER = "pooler."
LONGEST_REASON = 300


def pretrained(
    directory: Path, lm_head: LmHead | None, source: str | Path, placement: Placement = HERE
) -> tuple[PreTrainedModel, LmHead]:
    """Load the model where `placement` says, with its LM head: `lm_head`, or what the configuration says.

    The configuration of a sentence embedder often promises a head that was never saved. If exactly the head's weights
    are missing, the result is the backbone with the head "none".

    Raises:
        ModelError: names `source`: a weight is missing or not in the directory itself, transformers cannot load it,
            it is an encoder-decoder, its attention is block-sparse, or its weights were quantised in a way that is
            not read at `placement`.
    """
    require_versions_beside(directory)
    with one_line(f"{source}: cannot load a language model"):
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        placement = readable(config, placement, source)
        parts = (config, *(part for part in vars(config).values() if isinstance(part, PreTrainedConfig)))
        for part in parts:  # of a model of several kinds, the text's part may be all that is loaded
            require_covered(directory, getattr(part, "transformers_weights", None))
        kind = lm_head or promised(config)
        factory: Any = FACTORIES[kind]
        model, report = factory.from_pretrained(
            directory,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            **placed(placement),
        )
    missing = set(report["missing_keys"])  # transformers would leave them random
    if kind == "none":
        missing = {key for key in missing if not key.startswith(POOLER)}
    elif missing and lm_head is None and _only_head(missing, model):
        model, kind, missing = model.base_model, "none", set()
    if missing:
        raise ModelError(
            f"{source}: not a whole language model: no weight {min(missing)!r}; save the model again"
        )
    require_lines(model, source)
    model.config.return_dict = True  # a configuration may say otherwise
    return without_pooler(unpacked(model)), kind


def require_lines(model: PreTrainedModel, source: str | Path) -> None:
    """Refuse a model that reads no single line as it is.

    Raises:
        ModelError: names `source`: the model is an encoder-decoder, or its attention is block-sparse.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source}: cannot load a language model: {type(model).__name__} is an encoder-decoder, which has no "
            "single line to put a prompt before; take a causal or a masked language model"
        )
    if getattr(model.config, "attention_type", "") == "block_sparse":
        raise ModelError(
            f"{source}: cannot load a language model: with attention_type block_sparse {type(model).__name__} "
            'changes for good at its first short line; write "attention_type": "original_full" into config.json'
        )


def tokenizer_of(directory: Path, source: str | Path) -> PreTrainedTokenizerBase:
    """Load the model's fast tokeniser.

    Raises:
        ModelError: names `source`: there is no fast tokeniser, or it cannot be loaded.
    """
    with one_line(f"{source}: cannot load a language model"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"{source}: needs a fast tokeniser (tokenizer.json); convert the tokeniser and save it again"
        )
    return tokenizer


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Replace the model's pooler by an identity and return the model.

    No answer is read through a pooler, and few checkpoints contain one. Some families call it even if it is None.
    """
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()
    return model


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn every exception in the block into a ModelError of one line, `what` and the reason; silence transformers.

    Transformers would warn of a corrupted checkpoint where a head or pooler was never saved.
    """
    before: int = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except (PromptferryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        raise ModelError(f"{what}: {reason_of(error)}") from error
    finally:
        logging.set_verbosity(before)


def reason_of(error: BaseException) -> str:
    """Return the message of a foreign error in one line of at most `LONGEST_REASON` characters."""
    reason = " ".join(str(error).split()) or "no reason given"
    reason = reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1]}…"
    return reason if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {reason}"


def _only_head(missing: Set[str], model: PreTrainedModel) -> bool:
    """Return whether all of the head's own weights are missing, and none of the backbone's."""
    backbone = f"{model.base_model_prefix}."
    own = {name for name, _ in model.named_parameters() if not name.startswith(backbone)}
    return own <= missing and not any(key.startswith(backbone) for key in missing)


def promised(config: Any) -> LmHead:
    """Return the LM head that a configuration names."""
    architectures = set(getattr(config, "architectures", None) or [])
    masked, causal, bare = (
        architectures & _names(mapping, config.model_type)
        for mapping in (
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_MAPPING_NAMES,
        )
    )
    if masked and causal:  # families such as XLM have one class for both
        return "causal" if getattr(config, "causal", False) else "masked"
    if not architectures:
        return "causal" if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "masked"
    if causal or any("CausalLM" in name or "LMHead" in name for name in architectures):
        return "causal"
    return "none" if bare and not masked else "masked"


def _names(mapping: Mapping[str, Any], model_type: str) -> set[str]:
    names = mapping.get(model_type, ())
    return {names} if isinstance(names, str) else set(names)
