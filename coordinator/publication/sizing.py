"""What a target needs before anything is loaded: memory by part and bytes to each client, from configurations alone.

Whatever follows from a configuration is exact: weights, references, downloads and the activations of one pass. Left
out are the rest of a process (PyTorch itself, about 0.5 GB), single logits and gradients of a layer, and all seconds,
which only a run can tell.

Letters: N public texts, C classes, D directions, P prompt tokens, T tokens, H hidden size, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PretrainedConfig

from coordinator.home.settings import TargetSettings, chosen
from coordinator.publication.workload import Workload
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import ProxyRecord
from transfer.distillation.settings import DistilSettings
from transfer.distillation.sizing import forecast
from transfer.families.skeleton import Skeleton, config_of, skeleton, stored_in
from transfer.files.public_text import PublicText
from transfer.models.needs import Need, Purpose, described, of_weights
from transfer.models.passes import CPU
from transfer.models.sizing import kept_for_backward, rows_of
from transfer.placement.devices import chosen_device, dtype_of
from transfer.placement.settings import Placement

SINGLE = 4
"""Bytes of a float32, the type of prompts, references and everything that is trained."""


def default_layers(config: PretrainedConfig) -> int:
    """Return a quarter of a target's layers, at least one."""
    return max(1, int(config.get_text_config().num_hidden_layers) // 4)


def of_target(source: str, layers: int | Sequence[int] | None, placement: Placement) -> list[Need]:
    """Return what distillation to `layers`, a transfer and a client's round need of the target in `source`.

    Raises:
        ModelError: there is no configuration of a language model in `source`, or it has no such layers.
    """
    config = config_of(source)
    proxy = forecast(source, layers or default_layers(config), placement, DistilSettings())
    small, work = skeleton(proxy.config, stored_in(config)), Workload()
    distilled, sent = proxy.needs[:-1], proxy.needs[-1]
    return [*distilled, *_round(config, proxy.config, placement, work), sent, *_messages(small, work)]


def of_plan(plan: CampaignPlan, proxy: ProxyRecord, target: TargetSettings) -> list[Need]:
    """Return what a campaign needs of the coordinator, whose own target is `target`, and of each client.

    Raises:
        ModelError: there is no configuration of a language model where the plan's target or the proxy should be.
    """
    task, chosen_target = plan.task, chosen(plan.target, target)
    theirs, ours = config_of(chosen_target.source), config_of(proxy.directory)
    work = Workload(
        texts=len(PublicText.of(Path(plan.public_text))),
        tokens=task.max_tokens,
        prompt=plan.start.length + task.head_rows,
        longer=plan.target_length - plan.start.length,
        classes=len(task.labels),
        answers=task.answer_tokens if task.kind == "text" else 1,
        dimensions=plan.dimensions,
        transfer=plan.transfer,
    )
    small = skeleton(ours, stored_in(ours))
    detail = f"{small.layers} layers, {described(small)}, and tokeniser; once"
    return [
        *_round(theirs, ours, chosen_target.placement, work),
        Need("to each client", "proxy", sum(file.size for file in proxy.files), detail),
        *_messages(small, work),
    ]


def _round(
    config: PretrainedConfig, proxy: PretrainedConfig, placement: Placement, work: Workload
) -> Iterator[Need]:
    """Yield what a transfer needs, and a client whose own placement is the default, on a CPU."""
    yield of_weights("transfer", config, placement)
    small = skeleton(proxy, dtype_of(placement.beside, stored_in(proxy)))
    yield Need("transfer", "proxy's weights", small.weights(), described(small))
    large = skeleton(config, dtype_of(placement, stored_in(config)))
    device, again = chosen_device(placement), bool(placement.checkpointing)
    theirs = replace(work, prompt=work.prompt + work.longer)
    yield from _kept("transfer", large, theirs, work.transfer.batch_size, device, again)
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
    yield Need("client's round", "proxy's weights", own.weights(), described(own))
    yield from _kept("client's round", own, work, work.texts, CPU, checkpointing=False)
    rows = rows_of(work.texts, work.tokens + work.prompt, CPU)
    gradients = rows * work.prompt * own.width * SINGLE
    yield Need("client's round", "gradients of a pass", gradients, f"{rows} records' own, float32")


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
