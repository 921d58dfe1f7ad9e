"""What a target needs before anything is loaded: memory by part and bytes to each client, from configurations alone.

Whatever follows from a configuration is exact: weights, references, downloads and the activations of one pass. Left
out are the rest of a process (PyTorch itself, about 0.5 GB), single logits and gradients of a layer, and all seconds,
which only a run can tell.

Letters: N public texts, C classes, D directions, P prompt tokens, T tokens, H hidden size, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig

from coordinator.home.settings import TargetSettings, chosen
from coordinator.publication.needs import Need, Purpose, Workload
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import ProxyRecord
from transfer.distillation.pieces import PASS_TOKENS
from transfer.distillation.proxy import shorten, spread
from transfer.distillation.settings import DistilSettings
from transfer.errors import ModelError
from transfer.families.model_directory import directory_of
from transfer.families.skeleton import Skeleton, config_of, skeleton, stored_in
from transfer.files.public_text import read_texts
from transfer.models.passes import CPU
from transfer.models.sizing import kept_for_backward, kept_for_training, rows_of
from transfer.placement.devices import chosen_device, dtype_of
from transfer.placement.settings import Placement

SINGLE = 4
"""Bytes of a float32, the type of prompts, references and everything that is trained."""


def default_layers(config: PretrainedConfig) -> int:
    """Return a quarter of a target's layers, at least one."""
    return max(1, int(config.get_text_config().num_hidden_layers) // 4)


def shortened(config: PretrainedConfig, layers: Sequence[int]) -> PretrainedConfig:
    """Return the configuration of a proxy of these layers.

    Raises:
        ModelError: the family's configurations cannot be shortened.
    """
    own = deepcopy(config)
    shorten(own, layers)
    return type(own).from_dict(own.to_dict())


def of_target(source: str, layers: int | Sequence[int] | None, placement: Placement) -> list[Need]:
    """Return what distillation to `layers`, a transfer and a client's round need of the target in `source`.

    Raises:
        ModelError: there is no configuration of a language model in `source`, or it has no such layers.
    """
    config = config_of(source)
    total, chosen = int(config.get_text_config().num_hidden_layers), layers or default_layers(config)
    indices = spread(chosen, total) if isinstance(chosen, int) else chosen
    if not set(indices) <= set(range(total)):
        raise ModelError(f"layers {list(indices)} must be among the target's 0–{total - 1}")
    proxy = shortened(config, indices)
    proxy.dtype = stored_in(config)
    small, work = skeleton(proxy, proxy.dtype), Workload()
    tokeniser = sum(path.stat().st_size for path in directory_of(source).glob("tokenizer*"))
    detail = f"{len(indices)} of {total} layers, {_weights(small)}, and tokeniser; once"
    return [
        *_distillation(config, proxy, placement, DistilSettings()),
        *_round(config, proxy, placement, work),
        Need("to each client", "proxy", small.weights() + tokeniser, detail),
        *_messages(small, work),
    ]


def of_plan(plan: CampaignPlan, proxy: ProxyRecord, target: TargetSettings) -> list[Need]:
    """Return what a campaign needs of the coordinator, whose own target is `target`, and of each client.

    Raises:
        ModelError: there is no configuration of a language model where the plan's target or the proxy should be.
    """
    task, chosen_target = plan.task, chosen(plan.target, target)
    theirs, ours = config_of(chosen_target.source), config_of(proxy.directory)
    work = Workload(
        texts=len(read_texts(Path(plan.public_text))),
        tokens=task.max_tokens,
        prompt=plan.start.length + task.head_rows,
        classes=len(task.labels),
        answers=task.answer_tokens if task.kind == "text" else 1,
        dimensions=plan.dimensions,
        transfer=plan.transfer,
    )
    small = skeleton(ours, stored_in(ours))
    detail = f"{small.layers} layers, {_weights(small)}, and tokeniser; once"
    return [
        *_round(theirs, ours, chosen_target.placement, work),
        Need("to each client", "proxy", sum(file.size for file in proxy.files), detail),
        *_messages(small, work),
    ]


def _distillation(
    config: PretrainedConfig, proxy: PretrainedConfig, placement: Placement, settings: DistilSettings
) -> Iterator[Need]:
    """Yield the parts of a distillation; a proxy is trained in float32, and its best state is on the CPU."""
    dtype = dtype_of(placement, stored_in(config))
    small = skeleton(proxy, torch.float32)
    if placement.quantise == "none":  # from quantised weights no proxy can be cut
        yield _target("distillation", config, placement)
    else:
        whole = placement.model_copy(update={"quantise": "none"})
        dtype = dtype_of(whole, stored_in(config))
        yield _target("distillation", config, whole)
    frozen = {id(weight): weight for end in _ends(small) for weight in end.parameters()}
    trained = small.weights() - sum(weight.nbytes for weight in frozen.values())
    if dtype != torch.float32:  # in one type they are the target's own
        yield Need("distillation", "proxy's frozen ends", small.weights() - trained, "float32")
    yield Need("distillation", "proxy's trained weights", trained, f"{small.layers} layers, float32")
    yield Need("distillation", "their gradients", trained, "float32")
    yield Need("distillation", "Adam's moments", 2 * trained, "float32")
    yield Need("distillation", "best state", trained, "float32, on the CPU")
    tokens = (
        min(settings.batch_tokens, PASS_TOKENS)
        if chosen_device(placement).type == "cpu"
        else settings.batch_tokens
    )
    rows = max(1, tokens // settings.sequence_tokens)
    kept = kept_for_training(small, rows, settings.sequence_tokens)
    yield Need(
        "distillation", "kept for backward", kept, f"{rows} × {settings.sequence_tokens} tokens, measured"
    )


def _round(
    config: PretrainedConfig, proxy: PretrainedConfig, placement: Placement, work: Workload
) -> Iterator[Need]:
    """Yield what a transfer needs, and a client whose own placement is the default, on a CPU."""
    yield _target("transfer", config, placement)
    small = skeleton(proxy, dtype_of(placement.beside, stored_in(proxy)))
    yield Need("transfer", "proxy's weights", small.weights(), _weights(small))
    large = skeleton(config, dtype_of(placement, stored_in(config)))
    device, again = chosen_device(placement), bool(placement.checkpointing)
    yield from _kept("transfer", large, work, work.transfer.batch_size, device, again)
    labels = _references(work, work.classes, SINGLE)
    vocabulary = _references(work, large.vocabulary, torch.float16.itemsize)
    reads = work.texts * work.answers
    in_labels = work.transfer.space == "labels" and work.classes > 0
    if work.classes:
        detail = f"space = labels: {reads:,} × {work.classes} float32, {_count(work)} of them"
        yield Need("transfer", "references", labels, detail, in_labels)
    detail = f"space = vocabulary: {reads:,} × {large.vocabulary:,} float16, {_count(work)} of them, on disk"
    yield Need("transfer", "references", vocabulary, detail, counted=False)
    own = skeleton(proxy, torch.float32)
    yield Need("client's round", "proxy's weights", own.weights(), _weights(own))
    yield from _kept("client's round", own, work, work.texts, CPU, checkpointing=False)
    rows = rows_of(work.texts, work.tokens + work.prompt, CPU)
    gradients = rows * work.prompt * own.width * SINGLE
    yield Need("client's round", "gradients of a pass", gradients, f"{rows} records' own, float32")


def _target(purpose: Purpose, config: PretrainedConfig, placement: Placement) -> Need:
    bones = skeleton(config, dtype_of(placement, stored_in(config)))
    estimate = "" if placement.quantise == "none" else f", {placement.quantise} by estimate"
    return Need(
        purpose, "target's weights", bones.weights(placement.quantise), f"{_weights(bones)}{estimate}"
    )


def _kept(
    purpose: Purpose,
    bones: Skeleton,
    work: Workload,
    texts: int,
    device: torch.device,
    checkpointing: bool,
) -> Iterator[Need]:
    """Yield what is kept for the backward pass of one forward pass, without and with checkpointing."""
    rows = rows_of(texts, work.tokens + work.prompt, device)
    words = tuple((number + 1,) for number in range(work.classes)) if work.classes else None
    for again in (False, True):
        kept = kept_for_backward(bones, rows, work.tokens, work.prompt, checkpointing=again, words=words)
        detail = f"{rows} × ({work.tokens} + {work.prompt}) tokens, measured"
        part = "kept for backward" + (", checkpointing" if again else "")
        yield Need(purpose, part, kept, detail, again == checkpointing)


def _messages(small: Skeleton, work: Workload) -> Iterator[Need]:
    prompt = work.prompt * small.width * SINGLE
    yield Need("to each client", "prompt", prompt, "float32, each round; the reply is as large")
    if work.dimensions:
        detail = f"{work.dimensions} directions, float32, each round"
        yield Need("to each client", "subspace", work.dimensions * prompt, detail)


def _references(work: Workload, columns: int, item: int) -> int:
    return _count(work) * work.texts * work.answers * columns * item


def _count(work: Workload) -> int:
    return 3 if work.transfer.alpha else 1  # at α = 0 the loss needs no answer without a prompt


def _ends(bones: Skeleton) -> list[nn.Module]:
    """Return input embeddings and head, if any; a distillation freezes both by default."""
    ends = (bones.model.get_input_embeddings(), bones.model.get_output_embeddings())  # type: ignore[no-untyped-call]
    return [end for end in ends if end is not None]


def _weights(bones: Skeleton) -> str:
    return f"{bones.parameters:,} weights, {str(bones.model.dtype).removeprefix('torch.')}"
