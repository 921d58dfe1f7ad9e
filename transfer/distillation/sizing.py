"""A proxy that is not made yet, and what its distillation needs: from the target's configuration alone."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig

from transfer.distillation.exercises import PASS_TOKENS
from transfer.distillation.layers import layers_of, shorten
from transfer.distillation.proxy import layer_list
from transfer.distillation.settings import DistilSettings
from transfer.families.model_directory import directory_of
from transfer.families.skeleton import Skeleton, config_of, skeleton, stored_in
from transfer.models.needs import Need, described, of_weights
from transfer.models.sizing import kept_for_training
from transfer.placement.devices import chosen_device, dtype_of, name_of
from transfer.placement.settings import Placement

BESIDE = ("config.json", "generation_config.json", "tokenizer*", "chat_template*")
"""Files of a proxy beside its weights; they are as large as the target's."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A proxy as it will be.

    Attributes:
        layers: indices of the target's layers in it.
        of: number of the target's layers.
        parameters: number of weights; a tied one counts once.
        dtype: their type, that of the target's files.
        weights: their bytes.
        download: bytes of all its files, which each client fetches once.
        needs: memory for the distillation, by part, and the download.
        config: its configuration.
    """

    layers: tuple[int, ...]
    of: int
    parameters: int
    dtype: str
    weights: int
    download: int
    needs: tuple[Need, ...]
    config: PretrainedConfig


def forecast(
    source: str, layers: int | Sequence[int], placement: Placement, settings: DistilSettings
) -> Forecast:
    """Return what a distillation of the target in `source` to `layers` makes and needs. No weights have to be there.

    Raises:
        ModelError: there is no configuration of a language model in `source`, it has no such layers, no proxy can be
            cut from it, or the family's configurations cannot be shortened.
    """
    config = config_of(source)
    total = int(config.get_text_config().num_hidden_layers)
    chosen = layers_of(layers, total)
    layer_list(skeleton(config, stored_in(config)).model, total)
    proxy = shortened(config, chosen)
    small = skeleton(proxy, stored_in(config))
    beside = {path for pattern in BESIDE for path in directory_of(source).glob(pattern)}
    download = small.weights() + sum(path.stat().st_size for path in beside)
    detail = f"{len(chosen)} of {total} layers, {described(small)}, and tokeniser; once"
    needs = (
        *_distillation(config, skeleton(proxy, torch.float32), placement, settings),
        Need("to each client", "proxy", download, detail),
    )
    dtype = name_of(small.model.dtype)
    return Forecast(chosen, total, small.parameters, dtype, small.weights(), download, needs, proxy)


def shortened(config: PretrainedConfig, layers: Sequence[int]) -> PretrainedConfig:
    """Return the configuration of a proxy of these layers.

    Raises:
        ModelError: the family's configurations cannot be shortened.
    """
    own = deepcopy(config)
    shorten(own, layers)
    proxy = type(own).from_dict(own.to_dict())
    proxy.dtype = stored_in(config)
    return proxy


def _distillation(
    config: PretrainedConfig, small: Skeleton, placement: Placement, settings: DistilSettings
) -> Iterator[Need]:
    """Yield the parts of a distillation; a proxy is trained in float32, and its best state is on the CPU."""
    whole = placement.model_copy(update={"quantise": "none"})  # from quantised weights no proxy can be cut
    yield of_weights("distillation", config, whole)
    frozen = {id(weight): weight.nbytes for end in _frozen(small, settings) for weight in end.parameters()}
    trained = small.weights() - sum(frozen.values())
    if (
        frozen and dtype_of(whole, stored_in(config)) != torch.float32
    ):  # in one type they are the target's own
        yield Need("distillation", "proxy's frozen ends", small.weights() - trained, "float32")
    yield Need("distillation", "proxy's trained weights", trained, f"{small.layers} layers, float32")
    yield Need("distillation", "their gradients", trained, "float32")
    yield Need("distillation", "Adam's moments", 2 * trained, "float32")
    yield Need("distillation", "best state", trained, "float32, on the CPU")
    length = settings.sequence_tokens + (settings.prompted_tokens if settings.prompted_share else 0)
    tokens = (
        min(settings.batch_tokens, PASS_TOKENS)
        if chosen_device(placement).type == "cpu"
        else settings.batch_tokens
    )
    rows = max(1, tokens // length)
    kept = kept_for_training(small, rows, length, reduced=settings.precision == "bf16")
    yield Need("distillation", "kept for backward", kept, f"{rows} × {length} tokens, measured")


def _frozen(bones: Skeleton, settings: DistilSettings) -> list[nn.Module]:
    """Return those of input embeddings and head that are there and are not trained."""
    parts = {
        "embeddings": bones.model.get_input_embeddings(),
        "head": bones.model.get_output_embeddings(),  # type: ignore[no-untyped-call]
    }
    return [part for name, part in parts.items() if part is not None and name in settings.freeze]
