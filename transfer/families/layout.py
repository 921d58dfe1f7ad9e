"""Where a model of transformers keeps what is asked of every model, by the names that families give it."""

from collections.abc import Callable
from typing import Any, TypeVar

from transformers import PreTrainedModel

from transfer.errors import ModelError

_Found = TypeVar("_Found")


def layers(model: PreTrainedModel) -> int:
    """How many layers its backbone has.

    Raises:
        ModelError: its configuration does not say.
    """
    total = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(total, int):
        raise ModelError(f"{type(model).__name__}: its configuration does not say how many layers it has")
    return total


def positions(model: PreTrainedModel) -> int | None:
    """Most tokens of a row; None if the architecture sets no limit.

    RoBERTa's table of positions begins with those of padding, up to `padding_idx`, which no token has.
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
    """Whether positions are turned otherwise in long tensors, padding included, as LongRoPE does."""
    told = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return any(kind in str(told) for kind in ("longrope", "dynamic", "'su'"))


def backbones(model: PreTrainedModel) -> list[str]:
    """Names of modules that may give the states the LM head reads, the likeliest first."""
    names = {module: name for name, module in model.named_modules()}
    likely = [model.base_model, getattr(model, "model", None), attempt(model.get_decoder)]
    found = [names[module] for module in likely if module in names]
    if isinstance(model.base_model, type(model)):  # no base model of its own: it could stand for itself alone
        found = [*found[1:], found[0]]
    return list(dict.fromkeys(found))


def attempt(run: Callable[..., _Found], *given: Any) -> _Found | None:
    """What `run` gives; None if it raises anything: a shortcut that breaks is one that is not taken."""
    try:
        return run(*given)
    except Exception:  # noqa: BLE001 -- a checkpoint's code may raise anything
        return None
