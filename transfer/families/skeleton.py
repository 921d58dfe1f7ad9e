"""A model without weights: what its configuration alone says of its size.

Its tensors are PyTorch's fake ones: they say that they are on the CPU, and have all their storage on `meta`, which
costs no memory. Unlike a plain model on `meta` it runs the production code as it is, by the kernels of a CPU.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from transfer.errors import ModelError
from transfer.families.layout import layers, layers_in
from transfer.families.loading import FACTORIES, one_line, promised, require_lines, without_pooler
from transfer.families.model_directory import directory_of
from transfer.model_ref import LmHead
from transfer.placement.devices import embedding_of, require_embeddings
from transfer.placement.quantised import readable
from transfer.placement.settings import HERE, Quantisation

BLOCK, SCALE_BYTES = 64, 4
"""Weights that share a scale in NF4, and the bytes of a scale; in LLM.int8 each row of a matrix has one."""


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """A model in eval mode without weights, and the kind of its LM head as its configuration promises it."""

    model: PreTrainedModel
    lm_head: LmHead

    @property
    def layers(self) -> int:
        """Number of layers of the backbone."""
        return layers(self.model)

    @property
    def width(self) -> int:
        """H, the size of an input embedding."""
        return int(embedding_of(self.model).shape[1])

    @property
    def vocabulary(self) -> int:
        """V, the number of input embeddings."""
        return int(embedding_of(self.model).shape[0])

    @property
    def parameters(self) -> int:
        """Number of weights; a tied one counts once."""
        return sum(weight.numel() for weight in self.model.parameters())

    def weights(self, quantise: Quantisation = "none") -> int:
        """Return the bytes of all weights. With `quantise` it is an estimate of what bitsandbytes would make."""
        return sum(weight.nbytes for weight in self.model.parameters()) - self._saved(quantise)

    def _saved(self, quantise: Quantisation) -> int:
        if quantise == "none":
            return 0
        head = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        inner = (each for each in self.model.modules() if isinstance(each, nn.Linear) and each is not head)
        return sum(each.weight.nbytes - _quantised(each.weight, quantise) for each in inner)


def config_of(source: str | Path) -> PretrainedConfig:
    """Return the configuration of a model, whose directory may have no weights.

    Raises:
        ModelError: there is no such directory, no configuration in it that transformers can read, it does not say how
            many layers there are, or weights were quantised in a way that is not read here.
    """
    directory = directory_of(source)
    with one_line(f"{source}: cannot read config.json"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    readable(config, HERE, source)
    if (layers_in(config) or 0) < 1:
        raise ModelError(
            f"{source}: config.json does not say how many layers the model has (num_hidden_layers)"
        )
    return config


def stored_in(config: PretrainedConfig) -> torch.dtype:
    """Return the dtype of the weights in the model's files, as its configuration says; float32 if it does not."""
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def skeleton(config: PretrainedConfig, dtype: torch.dtype) -> Skeleton:
    """Return a model of this configuration without weights, as it would be in `dtype`.

    Raises:
        ModelError: transformers has no such language model, or it cannot be made without weights.
    """
    kind = promised(config)
    factory: Any = FACTORIES[kind]
    with (
        one_line(f"{config.model_type}: cannot size a language model"),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        with no_init_weights():  # some draw numbers, and look at them
            model = factory.from_config(deepcopy(config), dtype=dtype)
        model.tie_weights()
        require_embeddings(model)
        require_lines(model, config.model_type)
        model.eval().requires_grad_(False)
        model.config.return_dict = True
        return Skeleton(without_pooler(model), kind)


def _quantised(weight: torch.Tensor, quantise: Quantisation) -> int:
    if quantise == "int8":
        return weight.numel() + len(weight) * SCALE_BYTES
    return weight.numel() // 2 + -(-weight.numel() // BLOCK) * SCALE_BYTES
