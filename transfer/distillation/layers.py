"""Which of a target's layers a proxy has, and the configuration of a model that has only these."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

from transfer.errors import ModelError


def spread(count: int, total: int) -> tuple[int, ...]:
    """Return POST's choice of `count` of `total` layers: the first ⌈count/2⌉ and the last ⌊count/2⌋.

    Raises:
        ModelError: `count` is not between 1 and `total`.
    """
    if not 1 <= count <= total:
        raise ModelError(
            f"a proxy of {count} layers cannot be cut from a target of {total}; keep 1 to {total}"
        )
    first = -(-count // 2)
    return (*range(first), *range(total - (count - first), total))


def layers_of(wanted: int | Sequence[int], total: int) -> tuple[int, ...]:
    """Return the layers that `wanted` names of `total`: their indices, or POST's choice of a number of them.

    Raises:
        ModelError: the number is not between 1 and `total`; or an index is out of range, repeated or out of order.
    """
    if isinstance(wanted, int):
        return spread(wanted, total)
    if not wanted or list(wanted) != sorted(set(wanted) & set(range(total))):
        raise ModelError(f"layers {list(wanted)} must be ascending and among the target's 0–{total - 1}")
    return tuple(wanted)


def shorten(config: PreTrainedConfig, layers: Sequence[int]) -> None:
    """Reduce `config` to these layers: their number, and every list with one item per layer."""
    config = config.get_text_config()
    total = config.num_hidden_layers
    if isinstance(getattr(type(config), "layer_types", None), property):
        raise ModelError(
            f"{type(config).__name__} derives the kinds of its layers from their number, so a proxy's configuration "
            "cannot describe the target's layers; take another family"
        )
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == total and name != "architectures":
            setattr(config, name, [value[index] for index in layers])
    if hasattr(config, "attention_types"):  # GPT-Neo's: the kinds, and how often the whole list is repeated
        config.attention_types = [[config.attention_layers, 1]]
    config.num_hidden_layers = len(layers)
