"""Facts about any model of transformers, read under the names that its family uses."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from transfer.errors import ModelError

_Result = TypeVar("_Result")


def layers_in(config: PretrainedConfig) -> int | None:
    """Return the number of layers of the backbone that a configuration is of, None if it does not say."""
    total = getattr(config.get_text_config(), "num_hidden_layers", None)
    return total if isinstance(total, int) else None


def layers(model: PreTrainedModel) -> int:
    """Return the number of layers of the backbone.

    Raises:
        ModelError: the configuration does not say.
    """
    if (total := layers_in(model.config)) is None:
        raise ModelError(f"{type(model).__name__}: its configuration does not say how many layers it has")
    return total


def layer_lists(model: PreTrainedModel) -> dict[str, nn.ModuleList]:
    """Return every module list that has as many items as the backbone has layers, by its name."""
    total, modules = layers(model), model.named_modules()
    return {name: each for name, each in modules if isinstance(each, nn.ModuleList) and len(each) == total}


def only_list(model: PreTrainedModel) -> nn.ModuleList:
    """Return the one list of the backbone's layers, whose activations can be computed again.

    Raises:
        ModelError: there is no single list of layers.
    """
    if len(lists := list(layer_lists(model).values())) != 1:
        raise ModelError(
            "it has no single list of layers, so its activations cannot be computed again; place it with "
            "checkpointing = false"
        )
    return lists[0]


def positions(model: PreTrainedModel) -> int | None:
    """Return the largest number of tokens in a row; None if the architecture sets no limit.

    RoBERTa's table of positions begins with those up to `padding_idx`, which are reserved for padding.
    """
    limit: int | None = getattr(
        model.config, "max_position_embeddings", getattr(model.config, "max_seq_len", None)
    )
    if limit is not None and limit < 1:  # XLNet's −1
        return None
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding: int | None = getattr(table, "padding_idx", None)
    return limit if limit is None or padding is None else limit - padding - 1


def looks_at_length(model: PreTrainedModel) -> bool:
    """Return whether position encoding depends on a tensor's length, padding included, as in LongRoPE."""
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return any(kind in str(parameters) for kind in ("longrope", "dynamic", "'su'"))


def backbones(model: PreTrainedModel) -> list[str]:
    """Return names of modules that may compute the states the LM head reads, the likeliest first."""
    names = {module: name for name, module in model.named_modules()}
    likely = [model.base_model, getattr(model, "model", None), attempt(model.get_decoder)]
    candidates = [names[module] for module in likely if module in names]
    if isinstance(model.base_model, type(model)):  # the model is its own base model: try it last
        candidates = [*candidates[1:], candidates[0]]
    return list(dict.fromkeys(candidates))


def attempt(run: Callable[..., _Result], *arguments: Any) -> _Result | None:
    """Return the result of `run`; None if it raises, because a shortcut that breaks is not taken."""
    try:
        return run(*arguments)
    except Exception:  # noqa: BLE001 -- a checkpoint's code may raise anything
        return None


def ends(model: PreTrainedModel) -> frozenset[int]:
    """Return the tokens at which the model's generation configuration stops an answer, if it has one."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return frozenset(named if isinstance(named, list) else [] if named is None else [named])
