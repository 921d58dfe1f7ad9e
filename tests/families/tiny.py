"""Every causal and masked architecture of transformers as a tiny model of random weights.

A kind starts from the defaults of its configuration class. What a default says of a size is replaced by a small
number of the same name, lists of one entry a layer are shortened so that every kind of layer stays, and nested
configurations are shrunk alike; `OVERRIDES` has what these rules get wrong.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from tests.families.overrides import OVERRIDES
from tests.families.sizes import HEADS, LAYERS, SIZES
from tests.families.variants import ONLY, VARIANTS

FACTORIES: Mapping[str, Any] = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}
MAPPINGS = {"causal": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "masked": MODEL_FOR_MASKED_LM_MAPPING_NAMES}
SPECIAL: Mapping[str, Mapping[str, int]] = {
    "causal": {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "masked": {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "mask_token_id": 4,
        "unk_token_id": 1,
    },
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: an architecture, which of its heads, and what is special about this one."""

    model_type: str
    lm_head: Literal["causal", "masked"]
    variant: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.model_type} {self.lm_head}" + (f", {self.variant}" if self.variant else "")

    @property
    def architecture(self) -> str:
        """Its class in transformers."""
        return MAPPINGS[self.lm_head][self.model_type]

    def config(self) -> PreTrainedConfig:
        """A tiny configuration of this kind."""
        changes = {
            **OVERRIDES.get(self.model_type, {}),
            **ONLY.get((self.model_type, self.lm_head), {}),
            **self.changes,
        }
        return shrunk(CONFIG_MAPPING[self.model_type], SPECIAL[self.lm_head], changes)

    @torch.no_grad()
    def model(self) -> PreTrainedModel:
        """A model of random weights that are large enough for every part of it to show in the logits."""
        torch.manual_seed(0)
        model: PreTrainedModel = FACTORIES[self.lm_head].from_config(self.config())
        draw = torch.Generator().manual_seed(3)
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=draw)
            if weight.dim() > 1:
                weight.copy_(noise * 0.25)
            else:
                weight.add_(noise * 0.05)
        return model


def kinds() -> list[Kind]:
    """Every architecture of both mappings, each followed by its variants."""
    found = []
    for head, mapping in MAPPINGS.items():
        for model_type in mapping:
            found.append(Kind(model_type, head))  # type: ignore[arg-type]
            more = VARIANTS.get((model_type, head), {})
            found.extend(Kind(model_type, head, name, changes) for name, changes in more.items())  # type: ignore[arg-type]
    return found


def shrunk(
    cls: type[PreTrainedConfig], special: Mapping[str, int], changes: Mapping[str, Any]
) -> PreTrainedConfig:
    """A configuration of `cls` with every size made small, then `changes`; None takes a rule's value back.

    A change to a nested configuration is a mapping under its name.
    """
    names = {one.name for one in dataclasses.fields(cls) if one.init}  # type: ignore[arg-type]
    told: dict[str, Any] = {name: SIZES[name] for name in names if name in SIZES}
    if (
        "kv_lora_rank" in names and "num_key_value_heads" in names
    ):  # latent attention has a key for every head
        told["num_key_value_heads"] = HEADS
    told |= {name: value for name, value in special.items() if name in names}
    told |= _a_layer_each(cls, names)
    nested = _nested(cls)
    for name, inner in nested.items():
        own = {**OVERRIDES.get(inner.model_type, {}), **changes.get(name, {})}
        told[name] = shrunk(inner, special, own)
    told |= {name: value for name, value in changes.items() if name not in nested}
    return cls(**{name: value for name, value in told.items() if value is not None})


def _nested(cls: type[PreTrainedConfig]) -> dict[str, type[PreTrainedConfig]]:
    """Classes of the configurations within one of `cls`."""
    found = {}
    for name, spec in cls.sub_configs_defaults.items():
        inner = spec.config_class
        if not dataclasses.is_dataclass(inner):  # whichever class the model type names
            inner = CONFIG_MAPPING[spec.model_type]
        found[name] = inner
    return found


def _a_layer_each(cls: type[PreTrainedConfig], names: set[str]) -> dict[str, Any]:
    """Settings that have an entry a layer by default: one for each of `LAYERS`, all kinds among them."""
    try:
        default = cls().to_dict()
    except StrictDataclassError:  # a few refuse their own defaults
        return {}
    totals = [default[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if name in default]
    found = {}
    for name in (names & default.keys()) - SIZES.keys():
        value = default[name]
        if isinstance(value, list | tuple) and [len(value)] == totals[:1] and len(value) > LAYERS:
            every = list(dict.fromkeys(value))
            found[name] = [every[layer % len(every)] for layer in range(LAYERS)]
    return found
