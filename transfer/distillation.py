"""Distillation: a cut of the target learns the target's own answers on public text (POST stage 1).

Letters: B sequences, T tokens, N kept positions, H hidden size, V vocabulary.

The loss is 5·KL + 2·LM + 1·cosine at temperature 2 (Sanh et al. 2019, https://arxiv.org/abs/1910.01108;
weights as in POST §5). Input embeddings and head stay frozen: a prompt lives among the first and is read
through the second, and both models must mean the same by them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from transfer.batches import Line
from transfer.cloze import LEAST_TOKENS, Exercise, exercises, sequences_of
from transfer.errors import ModelError, UsageError
from transfer.models import LanguageModel
from transfer.objectives import cosine_distance, divergence
from transfer.proxy import Proxy, cut
from transfer.reading import only_at

LEAST_SEQUENCES = 20


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """How to distil.

    Attributes:
        steps: most optimiser steps, ≥ 0; distillation ends earlier on a plateau.
        batch_tokens: tokens a step, padding included.
        sequence_tokens: longest sequence, ≥ 8; longer texts are cut into several.
        learning_rate: peak of a schedule with 5 % warm-up and cosine decay.
        temperature: T of the KL term, > 0.
        weights: of the KL, language-model and cosine terms.
        masked_share: share of tokens masked, for a masked model, in (0, 1).
        check_every: steps between held-out measurements.
        patience: measurements without 0.5 % improvement after which distillation ends.

    Raises:
        UsageError: names the field and its range.
    """

    steps: int = 3000
    batch_tokens: int = 2048
    sequence_tokens: int = 64
    learning_rate: float = 1e-3
    temperature: float = 2.0
    weights: tuple[float, float, float] = (5.0, 2.0, 1.0)
    masked_share: float = 0.15
    check_every: int = 200
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "steps": 0,
            "batch_tokens": 1,
            "sequence_tokens": LEAST_TOKENS,
            "check_every": 1,
            "patience": 1,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"distillation {name} {getattr(self, name)} must be ≥ {value}")
        for name in ("learning_rate", "temperature"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"distillation {name} {getattr(self, name)} must be finite and > 0")
        if not 0 < self.masked_share < 1:
            raise UsageError(f"distillation masked_share {self.masked_share} must be in (0, 1)")


def distil(
    target: LanguageModel,
    layers: Sequence[int],
    texts: Sequence[str],
    settings: DistilSettings,
    on_progress: Callable[[int, float], None] = lambda _step, _kl: None,
) -> Proxy:
    """Distil a cut of `target` on public `texts`; an undistilled cut if `settings.steps` is 0.

    `on_progress(step, held_out_kl)` is called after every step with the best held-out KL so far, in nats.

    Raises:
        ModelError: too little text, or no such layers.
    """
    sequences = sequences_of(target, texts, settings.sequence_tokens)
    if len(sequences) < LEAST_SEQUENCES:
        raise ModelError(
            f"{len(sequences)} sequences of public text are too few to distil on; "
            f"{LEAST_SEQUENCES} are the least"
        )
    torch.manual_seed(settings.seed)  # dropout; no privacy depends on it
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    sequences = [sequences[index] for index in order]
    held = max(1, min(256, len(sequences) // 20))
    name = f"{target.ref.name}-proxy-{len(layers)}"
    proxy = LanguageModel(
        cut(target, layers), target.tokenizer, replace(target.ref, name=name), target.causal
    )
    run = _Distillation(target, proxy, settings)
    held_out = list(run.exercises(sequences[:held], torch.Generator().manual_seed(1)))
    steps = run.train(sequences[held:], held_out, on_progress) if settings.steps else 0
    kl, perplexity, target_perplexity = run.measure(held_out)
    return Proxy(proxy, target.ref, tuple(layers), kl, perplexity, target_perplexity, steps)


@dataclass(slots=True, eq=False)
class _Best:
    """The best held-out KL and state so far, and how many measurements went by without 0.5 % improvement."""

    kl: float
    state: dict[str, torch.Tensor]
    stale: int = 0

    def consider(self, kl: float, model: nn.Module) -> None:
        self.stale = 0 if kl < 0.995 * self.kl else self.stale + 1
        if kl < self.kl:
            self.kl, self.state = kl, _copy(model)


@dataclass(frozen=True, slots=True, eq=False)
class _Distillation:
    """One distillation: the target, the proxy that is trained in place, and the settings."""

    target: LanguageModel
    proxy: LanguageModel
    settings: DistilSettings

    def train(
        self,
        sequences: Sequence[Line],
        held_out: Sequence[Exercise],
        on_progress: Callable[[int, float], None],
    ) -> int:
        """Train the proxy, leave it in its best held-out state and frozen; return the steps taken."""
        model, settings = self.proxy.model, self.settings
        trained = _trained(self.proxy)
        optimizer = torch.optim.AdamW(
            trained, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _warmed_cosine(step, settings.steps)
        )
        best, step = _Best(self.measure(held_out)[0], _copy(model)), 0
        for step, batch in zip(range(1, settings.steps + 1), self._endless(sequences), strict=False):
            model.train(mode=True)
            optimizer.zero_grad()
            self.loss(batch).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()
            if step % settings.check_every == 0 or step == settings.steps:
                model.train(mode=False)
                best.consider(self.measure(held_out)[0], model)
            on_progress(step, best.kl)
            if best.stale == settings.patience:
                break
        model.load_state_dict(best.state)
        model.train(mode=False)
        model.requires_grad_(False)
        return step

    def loss(self, part: Exercise) -> torch.Tensor:
        """The weighted three terms, mean over positions."""
        with torch.no_grad():
            reference, reference_states = _read(self.target, part)
        logits, states = _read(self.proxy, part)
        kept = part.batch.mask.bool()
        kl, lm, cosine = self.settings.weights
        return (
            kl * divergence(reference, logits, self.settings.temperature)
            + lm * nn.functional.cross_entropy(logits, part.goal)
            + cosine * cosine_distance(reference_states[kept], states[kept])
        )

    @torch.no_grad()
    def measure(self, parts: Sequence[Exercise]) -> tuple[float, float, float]:
        """KL(target ‖ proxy) at T = 1 in nats a position, and the perplexity of each, on held-out batches."""
        total, sums = 0, torch.zeros(3)
        for part in parts:
            reference, logits = _read(self.target, part)[0], _read(self.proxy, part)[0]
            values = (
                divergence(reference, logits, 1.0),
                nn.functional.cross_entropy(logits, part.goal),
                nn.functional.cross_entropy(reference, part.goal),
            )
            sums += len(part.goal) * torch.stack(values)
            total += len(part.goal)
        kl, ours, theirs = (sums / total).tolist()
        return kl, math.exp(ours), math.exp(theirs)

    def exercises(self, sequences: Sequence[Line], generator: torch.Generator) -> Iterator[Exercise]:
        """One pass over the sequences in batches of random order."""
        settings = self.settings
        return exercises(self.proxy, sequences, settings.batch_tokens, settings.masked_share, generator)

    def _endless(self, sequences: Sequence[Line]) -> Iterator[Exercise]:
        generator = torch.Generator().manual_seed(self.settings.seed)
        while True:
            yield from self.exercises(sequences, generator)


def _trained(proxy: LanguageModel) -> list[nn.Parameter]:
    """Every parameter but those of the input embeddings and the head, ready for gradients."""
    head = proxy.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    frozen = {
        id(weight) for module in (proxy.model.get_input_embeddings(), head) for weight in module.parameters()
    }
    trained = [parameter for parameter in proxy.model.parameters() if id(parameter) not in frozen]
    for parameter in trained:
        parameter.requires_grad_(True)
    return trained


def _read(model: LanguageModel, part: Exercise) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, V] at the chosen positions and hidden states [B, T, H]."""
    with only_at(model.model, part.rows, part.columns) as states:
        logits = model.model(input_ids=part.batch.ids, attention_mask=part.batch.mask).logits[:, 0]
    return logits, states[0]


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _warmed_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return max(0.02, 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))
