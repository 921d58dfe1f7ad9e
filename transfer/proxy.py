"""Proxies: a few layers of the target, distilled on public text (POST stage 1).

Embeddings, final norm and LM head, if there is one, are copied from the target together with the chosen layers;
`transfer.distillation` then teaches the cut the target's own answers.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from transfer.errors import ModelError
from transfer.model_ref import ModelRef
from transfer.models import LanguageModel, load
from transfer.pretrained import without_pooler

RECORD_FILE = "proxy.json"


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """A distilled cut of a target.

    Attributes:
        parent: the exact target it came from.
        layers: indices of the target's layers it kept.
        held_out_kl: KL of target to proxy at T = 1 on held-out public text, in nats a position; without an LM
            head in nats a text, of which other texts of its batch are like it.
        held_out_perplexity: the proxy's own perplexity there; `target_perplexity` the target's. None of models
            that tell no tokens.
        steps: optimiser steps of its distillation.
    """

    model: LanguageModel
    parent: ModelRef
    layers: tuple[int, ...]
    held_out_kl: float
    held_out_perplexity: float | None
    target_perplexity: float | None
    steps: int

    @property
    def measured(self) -> dict[str, Any]:
        """Layers, steps and held-out measurements, as JSON has them."""
        return {"layers": list(self.layers)} | {name: getattr(self, name) for name in _MEASURED}

    @staticmethod
    def load(directory: Path, name: str | None = None) -> "Proxy":
        """Read a proxy directory.

        Raises:
            ModelError: not a model directory, or its proxy.json is missing or malformed.
        """
        return Proxy(model=load(directory, name=name), **read_record(directory))

    def save(self, directory: Path) -> "Proxy":
        """Write a Hugging Face directory with proxy.json in it; returns the proxy as stored there."""
        self.model.model.save_pretrained(directory)
        self.model.tokenizer.save_pretrained(directory)
        record = {"parent": self.parent.name, "parent_digest": self.parent.digest} | self.measured
        (directory / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        name = self.model.ref.name
        return replace(self, model=replace(self.model, ref=ModelRef.of_directory(name, directory)))


_MEASURED = tuple(field.name for field in fields(Proxy))[3:]
_PERPLEXITIES = {"held_out_perplexity", "target_perplexity"}


def read_record(directory: Path) -> dict[str, Any]:
    """What proxy.json says: the fields of a `Proxy` but for its model.

    Raises:
        ModelError: it is missing or malformed.
    """
    path = directory / RECORD_FILE
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise ModelError(f"{directory}: not a proxy: {RECORD_FILE} is missing") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a proxy record: {error}") from error


def _checked(record: Any, path: Path) -> dict[str, Any]:
    """Fields of a `Proxy` from the content of its proxy.json."""
    keys = {"parent", "parent_digest", "layers", *_MEASURED}
    if not isinstance(record, dict) or set(record) != keys:
        raise ModelError(
            f"{path}: not a proxy record: expected an object with the keys {', '.join(sorted(keys))}"
        )
    for key in ("parent", "parent_digest"):
        if not isinstance(record[key], str):
            raise ModelError(f"{path}: {key} {record[key]!r} is not a string")
    for key in _MEASURED:
        if record[key] is None and key in _PERPLEXITIES:
            continue
        if isinstance(record[key], bool) or not isinstance(record[key], int | float):
            raise ModelError(f"{path}: {key} {record[key]!r} is not a number")
    layers = record["layers"]
    if not isinstance(layers, list) or not all(type(index) is int and index >= 0 for index in layers):
        raise ModelError(f"{path}: layers {layers!r} are not a list of layer indices")
    parent = ModelRef(record["parent"], record["parent_digest"])
    return {"parent": parent, "layers": tuple(layers)} | {key: record[key] for key in _MEASURED}


def spread(count: int, total: int) -> tuple[int, ...]:
    """POST's choice of `count` of `total` layers: the first ⌈k/2⌉ and the last ⌊k/2⌋.

    Raises:
        ModelError: not between 1 and `total`.
    """
    if not 1 <= count <= total:
        raise ModelError(f"a proxy of {count} layers cannot be cut from a target of {total}")
    first = -(-count // 2)
    return (*range(first), *range(total - (count - first), total))


def cut(target: LanguageModel, layers: Sequence[int]) -> PreTrainedModel:
    """Copy of the target with only `layers`, in the target's order, everything else as it was.

    Raises:
        ModelError: an index is out of range, repeated or out of order, no layer list can be found, or a layer
            does not fit where it would stand.
    """
    total = int(target.model.config.num_hidden_layers)
    if not layers or list(layers) != sorted(set(layers) & set(range(total))):
        raise ModelError(f"layers {list(layers)} must be ascending and among the target's 0–{total - 1}")
    stack = _layer_list(target.model, total)
    config = type(target.model.config).from_dict(target.model.config.to_dict())
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in layers]
    model = without_pooler(type(target.model)(config))
    place = {old: new for new, old in enumerate(layers)}
    pattern = re.compile(rf"^{re.escape(stack)}\.(\d+)\.")
    state = {}
    for key, value in target.model.state_dict().items():
        found = pattern.match(key)
        if found is None:
            state[key] = value
        elif int(found[1]) in place:
            state[f"{stack}.{place[int(found[1])]}.{key[found.end() :]}"] = value
    try:
        model.load_state_dict(state)
    except RuntimeError as error:  # ModernBERT's first layer, for one, lacks a norm that all others have
        raise ModelError(
            f"{type(model).__name__}: its layers are not all alike, and {list(layers)} do not fit where they would "
            f"stand: keep the first layer, as in {list(spread(len(layers), total))}"
        ) from error
    return model


def _layer_list(model: PreTrainedModel, total: int) -> str:
    """Name of the module that lists the layers."""
    stacks: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == total
    ]
    if len(stacks) != 1:
        raise ModelError(f"{type(model).__name__}: cannot tell its layer list from {stacks or 'nothing'}")
    return stacks[0]
