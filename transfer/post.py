"""Cross-model transfer: a prompt tuned on the proxy becomes a prompt of the target (POST stage 3).

Letters: N public texts, B of them in a step, P prompt tokens, H hidden size, V vocabulary or C classes.

Only public text is used, never its labels. The proxy's logits with and without the prompt and the target's
without one do not depend on what is learnt, so they are computed once a text; a step is then one forward and
backward pass of the target. The best step is chosen on held-out public text.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from transfer.batches import Line, buckets
from transfer.errors import UsageError
from transfer.models import FORWARD_TOKENS, LanguageModel
from transfer.objectives import transfer_loss
from transfer.prompt import SoftPrompt
from transfer.tasks import Task

Space = Literal["labels", "vocabulary"]


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """How to transfer.

    Attributes:
        alpha: weight in [0, 1] of imitating the change a prompt makes over imitating its answers.
        temperature: T > 0 of both KL terms.
        space: compare over the class logits or over the whole vocabulary. The latter needs one vocabulary.
        steps: most optimiser steps; the best held-out one is returned.
        batch_size: public texts a step.
        learning_rate: peak of a cosine schedule.
        start: from the proxy's prompt where widths are equal, or from the task's text.
        held_out: share of the public texts that only choose the step.
        check_every: steps between held-out measurements.
    """

    alpha: float = 0.5
    temperature: float = 2.0
    space: Space = "labels"
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 0.01
    start: Literal["prompt", "text"] = "prompt"
    held_out: float = 0.2
    check_every: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"transfer alpha {self.alpha} must be in [0, 1]")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"transfer temperature {self.temperature} must be > 0")
        if not 0 < self.held_out < 1:
            raise UsageError(f"transfer held_out {self.held_out} must be in (0, 1)")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"transfer learning_rate {self.learning_rate} must be finite and > 0")
        for name, least in (("steps", 0), ("batch_size", 1), ("check_every", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"transfer {name} {getattr(self, name)} must be ≥ {least}")


@dataclass(frozen=True, slots=True, eq=False)
class Transferred:
    """A prompt of the target and how it was chosen, all measured on held-out public text."""

    prompt: SoftPrompt
    start_loss: float
    held_out_loss: float
    best_step: int
    space: Space


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """Public lines of the target and the constants of the loss: logits [N, V] or [N, C]."""

    lines: Sequence[Line]
    proxy_prompted: torch.Tensor
    proxy_bare: torch.Tensor
    target_bare: torch.Tensor


def transfer(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Transferred:
    """Transfer `prompt` from `proxy` to `target` on public `texts`.

    Raises:
        UsageError: too few texts, or the vocabulary space asked for across different vocabularies.
        TaskError: the label words do not fit one of the tokenisers.
    """
    if settings.space == "vocabulary" and _vocabulary(proxy) != _vocabulary(target):
        raise UsageError("proxy and target have different vocabularies: transfer in the space of labels")
    generator = torch.Generator().manual_seed(settings.seed)
    order, held = _split(texts, settings, generator)
    reference = _reference(prompt, proxy, target, task, texts, settings.space)
    run = _Run(target, task, reference, settings)
    start = initial_prompt(prompt, target, task, settings.start)
    return run.train(start, order[held:], order[:held], generator, on_step)


def held_out_losses(
    candidates: Mapping[str, SoftPrompt],
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
) -> dict[str, float]:
    """Held-out loss of each candidate prompt of the target, on the very texts `transfer` held out.

    Raises:
        UsageError: too few texts.
    """
    order, held = _split(texts, settings, torch.Generator().manual_seed(settings.seed))
    held_out = [texts[index] for index in order[:held].tolist()]
    run = _Run(target, task, _reference(prompt, proxy, target, task, held_out, settings.space), settings)
    every = torch.arange(held)
    return {name: run.held_out_loss(candidate.vectors, every) for name, candidate in candidates.items()}


def _split(
    texts: Sequence[str], settings: TransferSettings, generator: torch.Generator
) -> tuple[torch.Tensor, int]:
    """A random order of the texts, and how many at its front are held out."""
    if len(texts) < 10:
        raise UsageError(f"{len(texts)} public texts are too few to transfer with; 10 are the least")
    order = torch.randperm(len(texts), generator=generator)
    return order, min(len(texts) - 1, max(2, round(settings.held_out * len(texts))))


def _vocabulary(model: LanguageModel) -> tuple[str, int]:
    """What must be equal for logits to be comparable: the tokens, and the rows of a padded head."""
    return model.tokenizer_digest, model.embedding.shape[0]


def initial_prompt(prompt: SoftPrompt, target: LanguageModel, task: Task, start: str) -> SoftPrompt:
    """Where transfer begins: the proxy's vectors if they fit the target's width, else the task's text."""
    if start == "prompt" and prompt.width == target.width:
        return SoftPrompt(prompt.vectors, target.ref)
    return target.text_prompt(task.init_text, prompt.length - task.head_rows).longer(task.head_rows)


def _reference(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    space: Space,
) -> _Reference:
    """The three constant forward passes, in the space of comparison."""
    ours, theirs = proxy.encoder(task), target.encoder(task)
    proxy_lines, lines = ours.encode(texts), theirs.encode(texts)

    labels = space == "labels"
    our_words, their_words = (ours.words, theirs.words) if labels else (None, None)
    return _Reference(
        lines,
        proxy.answer_logits(proxy_lines, prompt, our_words),
        proxy.answer_logits(proxy_lines, None, our_words),
        target.answer_logits(lines, None, their_words),
    )


class _Run:
    """One optimisation: the target, the constants and the settings that every step shares."""

    def __init__(
        self, target: LanguageModel, task: Task, reference: _Reference, settings: TransferSettings
    ) -> None:
        self.target, self.reference, self.settings = target, reference, settings
        self.words = target.encoder(task).words if settings.space == "labels" else None

    def train(
        self,
        start: SoftPrompt,
        train: torch.Tensor,
        held_out: torch.Tensor,
        generator: torch.Generator,
        on_step: Callable[[int, int], None],
    ) -> Transferred:
        """Minimise the transfer loss from `start`, keep the best held-out step."""
        settings = self.settings
        vectors = nn.Parameter(start.vectors.clone())  # a copy: the proxy's prompt must not move along
        optimizer = torch.optim.Adam([vectors], lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, settings.steps))
        start_loss = self.held_out_loss(vectors, held_out)
        best, best_step, best_vectors = start_loss, 0, vectors.detach().clone()
        queue = train.new_empty(0)
        for step in range(1, settings.steps + 1):
            if len(queue) < min(settings.batch_size, len(train)):
                queue = torch.cat([queue, train[torch.randperm(len(train), generator=generator)]])
            chosen, queue = queue[: settings.batch_size].tolist(), queue[settings.batch_size :]
            optimizer.zero_grad()
            for part in self._parts(vectors, chosen):  # one forward and backward pass each bounds memory
                (self.loss(vectors, part) * (len(part) / len(chosen))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step % settings.check_every == 0 or step == settings.steps:
                loss = self.held_out_loss(vectors, held_out)
                if loss < best:
                    best, best_step, best_vectors = loss, step, vectors.detach().clone()
            on_step(step, settings.steps)
        return Transferred(
            SoftPrompt(best_vectors, self.target.ref), start_loss, best, best_step, settings.space
        )

    def loss(self, vectors: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """Mean transfer loss of the chosen texts."""
        batch = self.target.collate([self.reference.lines[i] for i in chosen])
        logits = self.target.logits(batch, vectors.expand(len(batch), -1, -1), self.words)
        reference, index = self.reference, list(chosen)
        return transfer_loss(
            logits,
            reference.target_bare[index],
            reference.proxy_prompted[index],
            reference.proxy_bare[index],
            alpha=self.settings.alpha,
            temperature=self.settings.temperature,
        )

    @torch.no_grad()
    def held_out_loss(self, vectors: torch.Tensor, held_out: torch.Tensor) -> float:
        """Mean transfer loss over the held-out texts."""
        parts = self._parts(vectors, held_out.tolist())
        return sum(len(part) * self.loss(vectors, part).item() for part in parts) / len(held_out)

    def _parts(self, vectors: torch.Tensor, chosen: Sequence[int]) -> Iterator[list[int]]:
        """The chosen texts in groups of similar length, so that little is padding."""
        lengths = [len(self.reference.lines[index].ids) + vectors.shape[0] for index in chosen]
        for group in buckets(lengths, FORWARD_TOKENS):
            yield [chosen[place] for place in group]
