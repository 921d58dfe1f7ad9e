"""Proxies: a few layers of the target, distilled on public text (POST stage 1).

Embeddings, final norm and LM head, if there is one, are copied from the target together with the chosen layers.
`transfer.distillation.distil` then teaches this cut the target's own answers.
"""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from transfer.distillation.layers import layers_of, shorten, spread
from transfer.distillation.weights import convert, require_whole, state_of, stored_dtype, uncached
from transfer.errors import ModelError
from transfer.families.closeness import close
from transfer.families.in_place import alone
from transfer.families.layout import layer_lists
from transfer.families.loading import reason_of, without_pooler
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.placement.devices import device_of
from transfer.placement.settings import HERE, Placement

RECORD_FILE = "proxy.json"


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """A distilled cut of a target.

    Attributes:
        model: the proxy as a model of its own.
        parent: the exact target it was cut from.
        layers: indices of the target's layers in the proxy.
        held_out_kl: KL(target ‖ proxy) at T = 1 on held-out public text, in nats per position. Without an LM head, in
            nats per text, of the distribution over similar texts in its batch.
        held_out_perplexity: the proxy's perplexity on that text; None for models without an LM head.
        target_perplexity: the target's perplexity on that text; None for models without an LM head.
        steps: optimiser steps of the distillation.
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
        """Layers, steps and held-out measurements, ready for JSON."""
        return {"layers": list(self.layers)} | {name: getattr(self, name) for name in _MEASURED}

    @staticmethod
    def load(directory: Path, name: str | None = None, placement: Placement = HERE) -> "Proxy":
        """Read a proxy directory.

        Raises:
            ModelError: `directory` is no model directory, or its proxy.json is missing or malformed.
        """
        return Proxy(model=load(directory, name=name, placement=placement), **read_record(directory))

    def save(self, directory: Path) -> "Proxy":
        """Write a Hugging Face directory with a proxy.json, and return the proxy as stored there.

        Weights have the type of `stored_dtype`; those of a distilled proxy lose nothing by it.
        """
        model, loaded = self.model.model, self.model.model.dtype
        convert(model, stored_dtype(model))
        try:
            model.save_pretrained(directory)
        finally:
            convert(model, loaded)
        self.model.tokenizer.save_pretrained(directory)
        record = {"parent": self.parent.name, "parent_digest": self.parent.digest} | self.measured
        (directory / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        name = self.model.ref.name
        return replace(self, model=replace(self.model, ref=ModelRef.of_directory(name, directory)))


_MEASURED = tuple(field.name for field in fields(Proxy))[3:]
_PERPLEXITIES = {"held_out_perplexity", "target_perplexity"}


def read_record(directory: Path) -> dict[str, Any]:
    """Read proxy.json: the fields of a `Proxy` except its model.

    Raises:
        ModelError: the file is missing or malformed.
    """
    path = directory / RECORD_FILE
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise ModelError(
            f"{directory}: not a proxy: {RECORD_FILE} is missing; distil one, or fetch it"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: not a proxy record: {error}") from error


def _checked(record: Any, path: Path) -> dict[str, Any]:
    """Return the fields of a `Proxy` from the content of its proxy.json."""
    keys = {"parent", "parent_digest", "layers", *_MEASURED}
    if not isinstance(record, dict) or set(record) != keys:
        raise ModelError(
            f"{path}: not a proxy record: expected an object with the keys {', '.join(sorted(keys))}"
        )
    for key in ("parent", "parent_digest"):
        if not isinstance(record[key], str):
            raise ModelError(f"{path}: {key} {record[key]!r} is not a string")
    for key in _MEASURED:
        if rule := _broken_rule(key, record[key]):
            raise ModelError(f"{path}: {key} {record[key]!r} is not {rule}")
    layers = record["layers"]
    if not isinstance(layers, list) or not all(type(index) is int and index >= 0 for index in layers):
        raise ModelError(f"{path}: layers {layers!r} are not a list of layer indices")
    parent = ModelRef(record["parent"], record["parent_digest"])
    return {"parent": parent, "layers": tuple(layers)} | {key: record[key] for key in _MEASURED}


def _broken_rule(key: str, value: Any) -> str | None:
    """Return the rule that a measurement breaks, or None."""
    if key == "steps":
        return None if type(value) is int and 0 <= value < 2**63 else "a whole number of steps"
    if value is None and key in _PERPLEXITIES:
        return None
    return None if type(value) in (int, float) else "a number"


def cut(target: LanguageModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a copy of the target with only `layers`, in the target's order, and everything else unchanged.

    Raises:
        ModelError: an index is out of range, repeated or out of order; the model has no single layer list; or a layer
            does not fit its place in the proxy or computes something else there.
    """
    layers_of(layers, target.layers)
    require_whole(target)
    stack = layer_list(target.model, target.layers)
    try:
        model = _rebuilt(target.model, layers, stack)
        _require_same(model, target, layers, stack)
    except ModelError:
        raise
    except Exception as error:
        # ModernBERT's first layer lacks a norm; other configurations cannot be shortened
        raise ModelError(
            f"{type(target.model).__name__}: its layers are not all alike, and {list(layers)} do not fit where they "
            f"would stand ({reason_of(error)}): keep the first layer, as in "
            f"{list(spread(len(layers), target.layers))}"
        ) from error
    return model


def _rebuilt(whole: PreTrainedModel, layers: Sequence[int], stack: str) -> PreTrainedModel:
    """Return a model of the same class with these layers' weights."""
    config = copy.deepcopy(whole.config)
    shorten(config, layers)
    config = type(config).from_dict(config.to_dict())  # as a reader of the saved file gets it
    model = without_pooler(type(whole)(config))
    model.train(mode=False)
    model.name_or_path = whole.name_or_path
    place = {old: new for new, old in enumerate(layers)}
    state = {}
    for key, value in state_of(whole):
        match = re.match(rf"{re.escape(stack)}\.(\d+)\.", key)
        if match is None:
            state[key] = value
        elif int(match[1]) in place:
            state[f"{stack}.{place[int(match[1])]}.{key[match.end() :]}"] = value
    model.load_state_dict(state)
    model.to(device_of(whole))  # type: ignore[arg-type]
    return model


def _require_same(copied: PreTrainedModel, target: LanguageModel, layers: Sequence[int], stack: str) -> None:
    """Refuse a cut whose layers compute something else on random lines than they do in the target."""
    for length in (5, 12, min(30, target.positions or 30)):
        draw = torch.Generator().manual_seed(length)
        ids = torch.randint(len(target.embedding), (1, length), generator=draw)
        with alone(target.model, layers, stack):
            wanted = _answer(target.model, ids)
        if not close(_answer(copied, ids), wanted, target.model.dtype):
            raise ModelError(
                f"{type(copied).__name__}: layers {list(layers)} would not do in a proxy what they do in the target, "
                "because a layer's result depends on its place; choose other layers, or another target"
            )


@torch.no_grad()
def _answer(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with uncached(model):  # a cache has one place per layer number, and a cut renumbers layers
        output = model(input_ids=ids.to(device_of(model)))
    answer: torch.Tensor = output.logits if "logits" in output else output.last_hidden_state
    return answer.float()


def layer_list(model: PreTrainedModel, total: int) -> str:
    """Return the name of the module that lists the layers.

    Raises:
        ModelError: there is not one such module, so no proxy can be cut.
    """
    stacks = list(layer_lists(model))
    if len(stacks) != 1:
        lists = f"{len(stacks)} lists" if stacks else "no list"
        raise ModelError(
            f"{type(model).__name__} has {lists} of {total} layers, so no proxy can be cut from it; "
            "take another target"
        )
    return stacks[0]
