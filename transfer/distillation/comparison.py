"""Target and proxy compared on an exercise, the vocabulary in blocks of rows.

Logits [N, V] are the largest tensors of a distillation: 0.4 GB each at 2 048 rows and V = 49 152, and a loss makes
several. So the backbones run once, and the heads run block by block: a block's loss is followed by its backward pass
into the states that the head read, and its logits are gone before the next. Memory then does not grow with V × N,
and no forward pass is repeated. The sums are those of one block, within rounding. A block's loss is computed strip by
strip in the same way, because a CPU writes to memory more slowly than it computes exponentials.

Letters: B sequences, T tokens, P prompt tokens, H hidden size, N positions to read, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from transfer.distillation.exercises import NO_GOAL, Exercise
from transfer.families.shortcuts import only_at
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import cosine_distance, divergences, relations
from transfer.placement.devices import precision
from transfer.placement.forward import forward_of

CPU_BLOCK, BLOCK = 12 * 2**20, 2**27
"""Logits of one block: 50 MB in float32 on a CPU, 0.5 GB elsewhere. A head multiplies few rows slowly."""
CPU_STRIP = 2**20
"""Logits of one strip of a block on a CPU, whose caches hold its dozen intermediate results."""

Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """A model's answers to an exercise; logits are computed when they are asked for.

    Attributes:
        states: last hidden states [B, P + T, H].
        read: what `head` reads, one row for each of N logits.
        head: computes logits [n, V] from n rows of `read`.
    """

    states: torch.Tensor
    read: torch.Tensor
    head: Head


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A target and a proxy, read in float32 or under bf16 autocast.

    Attributes:
        reduced: passes and heads run under bf16 autocast; losses are float32 in any case.
    """

    target: LanguageModel
    proxy: LanguageModel
    reduced: bool = False

    def learn(self, part: Exercise, temperature: float, shares: torch.Tensor) -> torch.Tensor:
        """Add the gradient of shares @ terms to that of the proxy's trained weights.

        Returns:
            The KL, LM and cosine terms [3] of the batch.
        """
        reference, ours = self._answers(part)
        real = part.mask.to(ours.states.device).bool()  # [B, P + T], without padding
        distance = cosine_distance(reference.states[real].float(), ours.states[real].float())
        counts = torch.tensor([len(part.goal), int((part.goal != NO_GOAL).sum()), 1])
        counts[0] = len(ours.read)  # without a head, texts and not tokens
        weights, counts = shares.to(distance), counts.to(distance)
        means, gradients = torch.zeros_like(counts), []
        for rows in self._blocks(len(ours.read)):
            read = ours.read[rows].detach().requires_grad_()
            logits = self._logits(ours, read)
            with torch.no_grad():
                theirs = self._logits(reference, reference.read[rows])
            gradient = torch.empty_like(logits)
            for strip in self._blocks(len(logits), CPU_STRIP):
                leaf = logits[strip].detach().requires_grad_()
                kl = divergences(theirs[strip], leaf, temperature).sum()
                losses = torch.stack([kl, self._surprise(leaf, part.goal[rows][strip])]) / counts[:2]
                (weights[:2] @ losses).backward()  # type: ignore[no-untyped-call]
                gradient[strip] = _gradient(leaf)
                means[:2] += losses.detach()
            logits.backward(gradient)  # type: ignore[no-untyped-call]
            gradients.append(_gradient(read))
        means[2] = distance.detach()
        torch.autograd.backward(
            (ours.read, weights[2] * distance), (torch.cat([ours.read[:0], *gradients]), None)
        )
        return means.cpu()

    @torch.no_grad()
    def measure(self, part: Exercise) -> tuple[int, torch.Tensor]:
        """Return the rows N of a batch, and sums [3] over them: KL(target ‖ proxy) at T = 1, and both surprises."""
        reference, ours = self._answers(part)
        sums = torch.zeros(3)
        for rows in self._blocks(len(ours.read)):
            theirs, logits = (self._logits(answers, answers.read[rows]) for answers in (reference, ours))
            goal = part.goal[rows]
            told = [self._surprise(logits, goal), self._surprise(theirs, goal)]
            sums += torch.stack([divergences(theirs, logits, 1.0).sum(), *told]).cpu()
        return len(ours.read), sums

    def _answers(self, part: Exercise) -> tuple[Answers, Answers]:
        """Return the answers of target and proxy; gradients reach the proxy only."""
        with self._precision():
            with torch.no_grad():
                reference = compared(self.target, part)
            return reference, compared(self.proxy, part)

    def _logits(self, answers: Answers, read: torch.Tensor) -> torch.Tensor:
        with self._precision():
            return answers.head(read).float()

    def _surprise(self, logits: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Return the sum of the cross-entropies of rows with a goal; 0 without an LM head."""
        if self.target.lm_head == "none":
            return logits.new_zeros(())
        return cross_entropy(logits, goal.to(logits.device), ignore_index=NO_GOAL, reduction="sum")

    def _blocks(self, count: int, on_cpu: int = 0) -> Iterator[slice]:
        """Yield slices of `count` rows, each with at most `on_cpu` or `CPU_BLOCK` logits, elsewhere `BLOCK`."""
        most = (on_cpu or CPU_BLOCK) if self.proxy.device.type == "cpu" else BLOCK
        rows = max(1, most // len(self.proxy.embedding))
        for start in range(0, count, rows):
            yield slice(start, start + rows)

    def _precision(self) -> AbstractContextManager[object]:
        return precision(self.proxy.device, reduced=self.reduced)


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def compared(model: LanguageModel, part: Exercise) -> Answers:
    """Run the backbone of `model` on an exercise and return its answers.

    Without a head, logits are the `relations` [B, B − 1] of each sequence's mean state over its own tokens.
    """
    embeds = model.model.get_input_embeddings()(part.ids.to(model.device))
    embeds = torch.cat([part.prompt.expand(len(part.ids), -1, -1).to(embeds), embeds], dim=1)
    inputs = {"inputs_embeds": embeds, "attention_mask": part.mask.to(embeds.device)}
    rows, columns = part.rows.to(embeds.device), part.columns.to(embeds.device)
    if model.lm_head == "none":
        states: torch.Tensor = model.model(**inputs).last_hidden_state
        return Answers(states, _relations(states.float(), rows, columns), lambda read: read)
    if model.traits.shortcuts.states is None:
        logits = model.model(**inputs | {"inputs_embeds": embeds.clone()}).logits[rows, columns]
        return Answers(model.backbone(**inputs).last_hidden_state, logits, lambda read: read)
    with _outputs(model.backbone) as outputs, only_at(model.backbone, rows[:1], columns[:1]) as seen:
        model.model(**inputs)  # the head sees one row of it
    return Answers(seen[0], seen[0][rows, columns], partial(_head_logits, model, type(outputs[0])))


def _head_logits(model: LanguageModel, output: Callable[..., Any], read: torch.Tensor) -> torch.Tensor:
    """Return logits [n, V] of states [n, H] by the model's own code, which does not compute its backbone again."""
    states = read.unsqueeze(1)  # [n, 1, H]
    mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    known = output(last_hidden_state=states)
    with forward_of(model.backbone, lambda *_inputs, **_named: known):
        logits: torch.Tensor = model.model(inputs_embeds=states, attention_mask=mask).logits
    return logits[:, 0]


@contextmanager
def _outputs(part: nn.Module) -> Iterator[list[Any]]:
    """Within the block, the outputs of `part` go to the yielded list."""
    seen: list[Any] = []
    handle = part.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def _relations(states: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Compute the `relations` in float32 at any precision, because cosines are divided by a small number."""
    own = states[rows, columns]  # [N, H]
    # sums [B, H] serve as well as means: a cosine ignores length
    sums = states.new_zeros(len(states), states.shape[2]).index_add(0, rows, own)
    with precision(states.device, reduced=False):
        return relations(sums)
