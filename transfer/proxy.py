"""Proxies: a few layers of the target, distilled on public text (POST stage 1).

Letters: B sequences, T tokens, N kept positions, H hidden size, V vocabulary.

Embeddings, final norm and head are copied from the target together with the chosen layers; the cut then learns
from the target's own answers: 5·KL + 2·LM + 1·cosine at temperature 2 (Sanh et al. 2019,
https://arxiv.org/abs/1910.01108; weights as in POST §5). Input embeddings and head stay frozen: a prompt lives
among the first and is read through the second, and both models must mean the same by them.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from transfer.errors import ModelError
from transfer.models import LanguageModel, load, only_at
from transfer.objectives import cosine_distance, divergence
from transfer.prompt import ModelRef
from transfer.tasks import Batch, Line, buckets

RECORD_FILE = "proxy.json"


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """How to distil.

    Attributes:
        steps: most optimiser steps; distillation ends earlier on a plateau.
        batch_tokens: tokens a step, padding included.
        sequence_tokens: longest sequence; longer texts are cut into several.
        learning_rate: peak of a schedule with 5 % warm-up and cosine decay.
        temperature: T of the KL term, > 0.
        weights: of the KL, language-model and cosine terms.
        masked_share: share of tokens masked, for a masked model.
        check_every: steps between held-out measurements.
        patience: measurements without 0.5 % improvement after which distillation ends.
    """

    steps: int = 3000
    batch_tokens: int = 2048
    sequence_tokens: int = 64
    learning_rate: float = 5e-4
    temperature: float = 2.0
    weights: tuple[float, float, float] = (5.0, 2.0, 1.0)
    masked_share: float = 0.15
    check_every: int = 200
    patience: int = 4
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """A distilled cut of a target.

    Attributes:
        parent: the exact target it came from.
        layers: indices of the target's layers it kept.
        held_out_kl: KL of target to proxy at T = 1 on held-out public text, in nats a position.
        held_out_perplexity: the proxy's own perplexity there; `target_perplexity` the target's.
    """

    model: LanguageModel
    parent: ModelRef
    layers: tuple[int, ...]
    held_out_kl: float
    held_out_perplexity: float
    target_perplexity: float
    steps: int

    @staticmethod
    def load(directory: Path, name: str | None = None) -> "Proxy":
        """Read a proxy directory.

        Raises:
            ModelError: not a model directory, or its proxy.json is missing or malformed.
        """
        model = load(directory, name=name)
        try:
            record = json.loads((directory / RECORD_FILE).read_text(encoding="utf-8"))
            parent = ModelRef(record.pop("parent"), record.pop("parent_digest"))
            return Proxy(model=model, parent=parent, layers=tuple(record.pop("layers")), **record)
        except OSError as error:
            raise ModelError(f"{directory}: not a proxy: {RECORD_FILE} is missing") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{directory / RECORD_FILE}: not a proxy record: {error!r}") from error

    def save(self, directory: Path) -> "Proxy":
        """Write a Hugging Face directory with proxy.json beside the weights; returns the proxy as stored there."""
        self.model.model.save_pretrained(directory)
        self.model.tokenizer.save_pretrained(directory)
        record = {
            "parent": self.parent.name,
            "parent_digest": self.parent.digest,
            "layers": list(self.layers),
            "held_out_kl": self.held_out_kl,
            "held_out_perplexity": self.held_out_perplexity,
            "target_perplexity": self.target_perplexity,
            "steps": self.steps,
        }
        (directory / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        name = self.model.ref.name
        return replace(self, model=replace(self.model, ref=ModelRef.of_directory(name, directory)))


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
    """Copy of the target with only `layers`, everything else as it was.

    Raises:
        ModelError: an index is out of range, or the architecture's layer list cannot be found.
    """
    total = int(target.model.config.num_hidden_layers)
    if not layers or any(not 0 <= index < total for index in layers):
        raise ModelError(f"layers {list(layers)} are not among the target's 0–{total - 1}")
    stacks = [
        name
        for name, module in target.model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == total
    ]
    if len(stacks) != 1:
        raise ModelError(f"{type(target.model).__name__}: cannot tell its layer list from {stacks or 'nothing'}")
    config = type(target.model.config).from_dict(target.model.config.to_dict())
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in layers]
    model = type(target.model)(config)
    place = {old: new for new, old in enumerate(layers)}
    pattern = re.compile(rf"^{re.escape(stacks[0])}\.(\d+)\.")
    state = {}
    for key, value in target.model.state_dict().items():
        found = pattern.match(key)
        if found is None:
            state[key] = value
        elif int(found[1]) in place:
            state[f"{stacks[0]}.{place[int(found[1])]}.{key[found.end() :]}"] = value
    model.load_state_dict(state)
    return model


def distil(
    target: LanguageModel,
    layers: Sequence[int],
    texts: Sequence[str],
    settings: DistilSettings,
    on_progress: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Proxy:
    """Distil a cut of `target` on public `texts`; an undistilled cut if `settings.steps` is 0.

    `on_progress(step, held_out_kl)` is called after every step with the last measured held-out KL in nats.

    Raises:
        ModelError: too little text, or no such layers.
    """
    sequences = _sequences(target, texts, settings.sequence_tokens)
    held = max(1, min(256, len(sequences) // 20))
    if len(sequences) < 20:
        raise ModelError(f"{len(sequences)} sequences of public text are too few to distil on; 20 are the least")
    torch.manual_seed(settings.seed)  # dropout and masks; no privacy depends on it
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(sequences), generator=generator).tolist()
    sequences = [sequences[index] for index in order]
    cut_model = cut(target, layers)
    name = f"{target.ref.name}-proxy-{len(layers)}"
    proxy = LanguageModel(cut_model, target.tokenizer, replace(target.ref, name=name), target.causal)
    held_out = list(_batches(proxy, sequences[:held], settings, torch.Generator().manual_seed(1)))
    steps = _train(target, proxy, sequences[held:], held_out, settings, on_progress) if settings.steps else 0
    kl, perplexity, target_perplexity = _measure(target, proxy, held_out)
    return Proxy(proxy, target.ref, tuple(layers), kl, perplexity, target_perplexity, steps)


def _train(
    target: LanguageModel,
    proxy: LanguageModel,
    sequences: Sequence[Line],
    held_out: Sequence["_Masked"],
    settings: DistilSettings,
    on_progress: Callable[[int, float], None],
) -> int:
    """Train the proxy in place, keep the best held-out state, return the steps taken."""
    model = proxy.model
    shared = {id(parameter) for module in (model.get_input_embeddings(), model.get_output_embeddings())
              for parameter in module.parameters()}
    trained = [parameter for parameter in model.parameters() if id(parameter) not in shared]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmed_cosine(step, settings.steps))
    generator = torch.Generator().manual_seed(settings.seed)
    best, best_state, stale, step = math.inf, _copy(model), 0, 0
    model.train()
    while step < settings.steps and stale < settings.patience:
        for batch in _batches(proxy, sequences, settings, generator):
            optimizer.zero_grad()
            _loss(target, proxy, batch, settings).backward()
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % settings.check_every == 0 or step == settings.steps:
                model.eval()
                kl = _measure(target, proxy, held_out)[0]
                model.train()
                stale = 0 if kl < 0.995 * best else stale + 1
                if kl < best:
                    best, best_state = kl, _copy(model)
            on_progress(step, best)
            if step == settings.steps or stale == settings.patience:
                break
    model.load_state_dict(best_state)
    model.eval()
    model.requires_grad_(False)
    return step


@dataclass(frozen=True, slots=True, eq=False)
class _Masked:
    """A batch with the positions to learn at: rows, columns [N] and the token that belongs there, goal [N]."""

    batch: Batch
    rows: torch.Tensor
    columns: torch.Tensor
    goal: torch.Tensor


def _loss(target: LanguageModel, proxy: LanguageModel, part: _Masked, settings: DistilSettings) -> torch.Tensor:
    with torch.no_grad():
        reference, reference_states = _read(target, part)
    logits, states = _read(proxy, part)
    kept = part.batch.mask.bool()
    kl, lm, cosine = settings.weights
    return (
        kl * divergence(reference, logits, settings.temperature)
        + lm * F.cross_entropy(logits, part.goal)
        + cosine * cosine_distance(reference_states[kept], states[kept])
    )


def _read(model: LanguageModel, part: _Masked) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, V] at the chosen positions and hidden states [B, T, H]."""
    with only_at(model.model, part.rows, part.columns) as states:
        logits = model.model(input_ids=part.batch.ids, attention_mask=part.batch.mask).logits[:, 0]
    return logits, states[0]


@torch.no_grad()
def _measure(target: LanguageModel, proxy: LanguageModel, parts: Sequence[_Masked]) -> tuple[float, float, float]:
    """KL(target ‖ proxy) at T = 1 in nats a position, and the perplexity of each, on held-out batches."""
    total, sums = 0, torch.zeros(3)
    for part in parts:
        reference, logits = _read(target, part)[0], _read(proxy, part)[0]
        n = len(part.goal)
        sums += n * torch.stack(
            [divergence(reference, logits, 1.0), F.cross_entropy(logits, part.goal), F.cross_entropy(reference, part.goal)]
        )
        total += n
    kl, ours, theirs = (sums / total).tolist()
    return kl, math.exp(ours), math.exp(theirs)


def _sequences(model: LanguageModel, texts: Sequence[str], longest: int) -> list[Line]:
    """Token sequences of 8 to `longest` tokens with the model's own special tokens."""
    cut_texts = model.tokenizer(
        list(texts), truncation=True, max_length=longest, return_overflowing_tokens=True, stride=0
    )["input_ids"]
    return [Line(tuple(ids), 0) for ids in cut_texts if len(ids) >= 8]


def _batches(
    model: LanguageModel, sequences: Sequence[Line], settings: DistilSettings, generator: torch.Generator
) -> Iterator[_Masked]:
    """One pass over the sequences in length-bucketed batches of random order."""
    groups = list(buckets([len(line.ids) for line in sequences], settings.batch_tokens))
    for index in torch.randperm(len(groups), generator=generator).tolist():
        batch = model.collate([sequences[i] for i in groups[index]])
        yield _next_tokens(batch) if model.causal else _masked(model, batch, settings.masked_share, generator)


def _next_tokens(batch: Batch) -> _Masked:
    """Every position but the last of each row, to predict its successor."""
    rows, columns = batch.mask[:, 1:].nonzero(as_tuple=True)
    return _Masked(batch, rows, columns, batch.ids[rows, columns + 1])


def _masked(model: LanguageModel, batch: Batch, share: float, generator: torch.Generator) -> _Masked:
    """A share of ordinary tokens to restore: 80 % masked, 10 % replaced, 10 % left (Devlin et al. 2019)."""
    special = torch.isin(batch.ids, torch.tensor(model.tokenizer.all_special_ids))
    draw = torch.rand(batch.ids.shape, generator=generator)
    draw[special | ~batch.mask.bool()] = 1.0
    draw[0, draw[0].argmin()] = 0.0  # at least one position, or the loss would be empty
    rows, columns = (draw < share).nonzero(as_tuple=True)
    goal, kind = batch.ids[rows, columns], torch.rand(len(rows), generator=generator)
    replaced = torch.randint(len(model.tokenizer), goal.shape, generator=generator)
    mask_id = torch.tensor(model.tokenizer.mask_token_id)
    ids = batch.ids.clone()
    ids[rows, columns] = torch.where(kind < 0.8, mask_id, torch.where(kind < 0.9, replaced, goal))
    return _Masked(replace(batch, ids=ids), rows, columns, goal)


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _warmed_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return max(0.02, 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))
