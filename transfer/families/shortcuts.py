"""A forward pass behind a prompt, complete or without the parts whose results are not read.

Letters: B rows, P prompt tokens, T tokens, H hidden size, N places (row, column) to read, V vocabulary, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import chain, count
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from transfer.placement.devices import device_of
from transfer.placement.forward import forward_of
from transfer.tokens.batches import Batch
from transfer.tokens.readout import Head, Places, Reading, WholeWords, label_logits

LAST_PARTS = {"mlp", "intermediate"}
"""Names of a layer's MLP, or of its first half, in transformers' decoders and encoders."""


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Parts a forward pass may leave out without changing its answers; by default none.

    Each depends on a layout that most models of transformers share, so `transfer.families.probe` tests it first.

    Attributes:
        states: name of the module whose last hidden states the LM head reads; only those at the answers reach it.
        last_layer: the last layer's MLP runs at the answers only.
        label_rows: the LM head multiplies its label words' rows only.
    """

    states: str | None = None
    last_layer: bool = False
    label_rows: bool = False


def inputs_of(model: PreTrainedModel, batch: Batch, prompt: torch.Tensor | None) -> dict[str, Any]:
    """Return the inputs of a pass: embeddings [B, P + T, H] of prompts [B, P, H], if any, and lines; their mask.

    A row's prompt stands where its line says, `batch.at`. Numbers are only copied, forward and backward, so a row's
    bits do not depend on where its neighbours' prompts stand.

    They are where the model is, and in its dtype; the gradient of a prompt comes back to where the prompt is. No keys
    and values are cached: nothing would read them, and a layer computed again would add its own twice.
    """
    device = device_of(model)
    embeds = model.get_input_embeddings()(batch.ids.to(device))  # [B, T, H]
    mask = batch.mask.to(device)  # [B, T]
    if prompt is not None:
        embeds = _joined(embeds, prompt.to(embeds), batch.at)  # [B, P + T, H]
        # no padding stands before a prompt, so its ones may as well open the row
        mask = torch.cat([mask.new_ones(prompt.shape[:2]), mask], dim=1)  # [B, P + T]
    inputs = {"inputs_embeds": embeds, "attention_mask": mask}
    return inputs | ({"use_cache": False} if _passes_on(model) else {})


def last_states(module: nn.Module, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the last hidden states [B, P + T, H] of a backbone for what `inputs_of` returns for its model."""
    known = {
        name: value for name, value in inputs.items() if name != "use_cache" or _caches(type(module).forward)
    }
    states: torch.Tensor = module(**known).last_hidden_state
    return states


def _passes_on(model: PreTrainedModel) -> bool:
    """Return whether the model takes `use_cache`, itself or, with all that it does not name, for its backbone."""
    own, inner = type(model).forward, type(model.base_model).forward
    return _caches(own) or (_caches(inner) and _takes_all(own))


@cache
def _caches(forward: Callable[..., Any]) -> bool:
    return "use_cache" in signature(forward).parameters


@cache
def _takes_all(forward: Callable[..., Any]) -> bool:
    return any(each.kind is each.VAR_KEYWORD for each in signature(forward).parameters.values())


def _joined(embeds: torch.Tensor, prompt: torch.Tensor, at: Sequence[int]) -> torch.Tensor:
    """Return rows [B, P + T, H]: of `embeds` [B, T, H] the part before column `at`, its prompt [P, H], the rest."""
    if len(columns := set(at)) < 2:  # one column in all rows: no row by row
        column = max(columns, default=0)
        return torch.cat([embeds[:, :column], prompt, embeds[:, column:]], dim=1)
    rows = zip(embeds.unbind(), prompt.unbind(), at, strict=True)
    return torch.stack([torch.cat([line[:column], own, line[column:]]) for line, own, column in rows])


def of_lines(states: torch.Tensor, length: int, at: Sequence[int]) -> torch.Tensor:
    """Return the lines' own states [B, T, H] among those [B, P + T, H] behind `inputs_of`, where P = `length`."""
    if not at:
        return states[:, length:]
    rows = zip(states, at, strict=True)
    return torch.stack([torch.cat([row[:column], row[column + length :]]) for row, column in rows])


def states_at(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    columns: torch.Tensor,
    backbone: str,
    shortcuts: Shortcuts,
) -> torch.Tensor:
    """Return last hidden states [B, H] of the module `backbone` at one place per row, in float32 on the CPU."""
    with last_layer_at(model, columns) if shortcuts.last_layer else nullcontext():
        states = last_states(model.get_submodule(backbone), inputs)
    return states[torch.arange(len(columns)), columns].float().cpu()


def read(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    places: Places,
    words: Reading | None,
    shortcuts: Shortcuts,
) -> torch.Tensor:
    """Return logits [N, V] of the LM head at N `places`, or class logits [B, C] of its `words`; float32 on the CPU.

    Raises:
        ModelError: `words` is a `Head`, which reads states.
    """
    if shortcuts.states is None:
        return label_logits(model(**inputs).logits[places.rows, places.columns].float().cpu(), words)
    with ExitStack() as shortened:
        if shortcuts.last_layer and places.one_a_row:
            shortened.enter_context(last_layer_at(model, places.columns))
        shortened.enter_context(only_at(model.get_submodule(shortcuts.states), places.rows, places.columns))
        few = words is not None and shortcuts.label_rows
        reading = shortened.enter_context(only_of(model, words)) if few else words
        logits: torch.Tensor = model(**inputs).logits[:, 0].float().cpu()  # [N, 1, V] → [N, V]
    return label_logits(logits, reading)


@contextmanager
def only_at(part: nn.Module, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Within the block, a forward pass gives logits [N, 1, V] at N chosen (row, column) positions only.

    `part` is the module whose states the LM head reads. All of its states, [B, T, H], go to the yielded list.
    """
    seen: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: Any) -> Any:
        states = output.last_hidden_state
        seen.append(states)
        output.last_hidden_state = states[rows, columns].unsqueeze(1)  # [B, T, H] → [N, 1, H]
        return output

    handle = part.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def last_layer_at(model: PreTrainedModel, columns: torch.Tensor) -> Iterator[None]:
    """Within the block, the last layer's MLP runs at one place per row, `columns` [B], and is added to all places.

    The result is exact at that place, because nothing behind the MLP mixes places, and wrong at all others. An MLP is
    two thirds of a layer's arithmetic. If the last layer has no MLP of a known name, nothing changes.
    """
    rows, total = torch.arange(len(columns)), int(model.config.num_hidden_layers)

    def narrow(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return inputs[0][rows, columns].unsqueeze(1), *inputs[1:]  # [B, T, H] → [B, 1, H]

    stacks = (m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == total)
    last = next(stacks, [nn.Identity()])[-1]
    parts = [part for name, part in last.named_children() if name in LAST_PARTS]
    handles = [part.register_forward_pre_hook(narrow) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def only_of(model: PreTrainedModel, words: Reading | None) -> Iterator[Reading | None]:
    """Within the block, the LM head multiplies the rows of `words` only; yield how to read its output.

    Whole words need every row, for a log-probability.
    """
    if words is None or isinstance(words, (WholeWords, Head)):
        yield words
        return
    ids = list(chain.from_iterable(words))
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    with align_module_device(head):  # an offloaded head is read now
        weight, bias = head.weight[ids], None if head.bias is None else head.bias[ids]
    place = count()
    with forward_of(head, lambda states: linear(states.to(weight.device), weight, bias)):
        yield [[next(place) for _ in each] for each in words]
