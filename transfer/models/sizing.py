"""Bytes that autograd keeps for the backward pass, measured on a model without weights.

The pass is that of `LanguageModel`: the same inputs, shortcuts and checkpointing. The shortcuts are taken unproven,
because `transfer.families.probe` needs weights to prove them; a model that does not allow them keeps more.

Letters: B rows, P prompt tokens, T tokens, H hidden size, V vocabulary.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from transfer.families.layout import attempt, backbones, layer_lists
from transfer.families.shortcuts import Shortcuts, inputs_of, last_states, read, states_at
from transfer.families.skeleton import Skeleton
from transfer.models.forward_size import forward_tokens
from transfer.placement.checkpointing import checkpointed
from transfer.placement.devices import embedding_of, precision
from transfer.tokens.batches import Batch
from transfer.tokens.readout import Words, question

LABELS: Words = ((1,), (2,))
"""One word of one token for each of two classes."""


def rows_of(texts: int, tokens: int, device: torch.device) -> int:
    """Return the rows of one forward pass of `texts` of at most `tokens` each, the prompt included, on `device`."""
    return max(1, min(texts, forward_tokens(device) // tokens))


def kept_for_backward(
    bones: Skeleton,
    rows: int,
    tokens: int,
    prompt: int,
    *,
    checkpointing: bool = False,
    words: Words | None = LABELS,
) -> int | None:
    """Return the bytes kept after one forward pass of `rows` lines of `tokens` behind `prompt` tokens.

    Weights are not counted. With `checkpointing`, they are the inputs of all layers and the activations of one, which
    is also the most that the backward pass keeps. Without `words`, the whole vocabulary is read.

    Returns:
        None if it cannot be measured without weights, as where tensors' shapes depend on values (experts), or where
        layers are in no single list, so that nothing can be computed again.
    """
    lists = list(layer_lists(bones.model).values())
    if checkpointing and len(lists) != 1:
        return None
    batch = _batch(rows, tokens)
    prompts = (
        embedding_of(bones.model)
        .new_zeros(rows, prompt, bones.width, dtype=torch.float32)
        .requires_grad_(True)
    )

    def pass_of(name: str, shortcuts: Shortcuts) -> int:
        with _counted(bones.model) as kept, checkpointed(list(lists[0]) if checkpointing else []):
            _output = _read(
                bones, name, shortcuts, batch, prompts, words
            )  # keeps the graph until it is counted
            return _bytes(kept)

    return _first(bones, pass_of)


def kept_for_training(bones: Skeleton, rows: int, tokens: int, *, reduced: bool = False) -> int | None:
    """Return the bytes kept after a pass of the backbone of a model whose layers are trained; see `TrainingState`.

    With `reduced`, the pass runs under bf16 autocast, which also keeps weights in bf16.
    """
    inner = layer_lists(bones.model)
    for weight in (weight for each in inner.values() for weight in each.parameters()):
        weight.requires_grad_(True)
    batch = _batch(rows, tokens)

    def pass_of(name: str, _shortcuts: Shortcuts) -> int:
        with _counted(bones.model) as kept, precision(torch.device("cpu"), reduced=reduced):
            _states = last_states(bones.model.get_submodule(name), inputs_of(bones.model, batch, None))
            return _bytes(kept)

    try:
        return _first(bones, pass_of)
    finally:
        bones.model.requires_grad_(False)


def _first(bones: Skeleton, measured: Callable[[str, Shortcuts], int]) -> int | None:
    """Return what is measured with the likeliest backbone that runs; None if none does."""
    with _unheard("torch._subclasses.fake_tensor"):
        for name in backbones(bones.model):
            for shortcuts in (Shortcuts(name, last_layer=True, label_rows=True), Shortcuts()):
                if (kept := attempt(measured, name, shortcuts)) is not None:
                    return kept
    return None


@contextmanager
def _unheard(name: str) -> Iterator[None]:
    """Within the block, a logger of PyTorch does not write the traceback of an operator that fails."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read(
    bones: Skeleton,
    name: str,
    shortcuts: Shortcuts,
    batch: Batch,
    prompts: torch.Tensor,
    words: Words | None,
) -> torch.Tensor:
    inputs, places = inputs_of(bones.model, batch, prompts), question(batch, words).behind(prompts)
    if bones.lm_head == "none":
        return states_at(bones.model, inputs, places.columns, name, shortcuts)
    return read(bones.model, inputs, places, words, shortcuts)


def _batch(rows: int, tokens: int) -> Batch:
    # the last column is padding, as in private passes: where nothing is padded, transformers takes another path
    mask = torch.ones(rows, tokens, dtype=torch.long)
    mask[:, -1] = 0
    return Batch(torch.zeros(rows, tokens, dtype=torch.long), mask, torch.full((rows,), tokens - 2))


@contextmanager
def _counted(model: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Within the block, storages that are kept for a backward pass and are no weights go to the yielded mapping."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}  # noqa: SLF001
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:  # noqa: SLF001
            kept[storage._cdata] = storage  # noqa: SLF001 -- held, so that no other gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _bytes(kept: Mapping[int, torch.UntypedStorage]) -> int:
    return sum(storage.nbytes() for storage in kept.values())
