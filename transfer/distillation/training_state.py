"""The state of a distillation: the trained weights, their optimiser, the best state so far, and the pace."""

import logging
import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from transfer.distillation.checkpoint import Checkpoint
from transfer.distillation.divided_layers import clip_gradients, gathered, kinds, like, local
from transfer.distillation.exercises import Exercise
from transfer.distillation.settings import DistilSettings
from transfer.models.language_model import LanguageModel
from transfer.progress import time_left

logger = logging.getLogger(__name__)

_ADAM = ("step", "exp_avg", "exp_avg_sq")
LONGEST_GRADIENT = 5.0
ENOUGH = 0.995
"""A held-out KL counts as an improvement below this share of the best."""


class TrainingState:
    """Everything a later step depends on; `checkpoint` and `restore` preserve it bit for bit.

    Attributes:
        step: steps taken.
        kl: best held-out KL so far; the weights at that time are kept, on the CPU. A process keeps its part of them.
        stale: measurements since then without 0.5 % improvement.
    """

    def __init__(self, proxy: LanguageModel, settings: DistilSettings) -> None:
        """Prepare the weights that `settings` do not freeze for gradients."""
        self._model, self._settings = proxy.model, settings
        self._weights = _trained(proxy, settings)
        self._optimizer = torch.optim.AdamW(
            [{"params": kind} for kind in kinds(self._weights.values())],
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.0,
        )
        self._best = {
            name: local(weight.detach()).to("cpu", copy=True) for name, weight in self._weights.items()
        }
        self.step, self.kl, self.stale = 0, math.inf, 0

    @property
    def over(self) -> bool:
        """Whether all steps are done or a plateau is reached."""
        return self.step >= self._settings.steps or self.stale >= self._settings.patience

    def descend(self) -> None:
        """Take one optimiser step along the accumulated gradients."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * _warmed_cosine(self.step, self._settings.steps)
        clip_gradients(self._weights.values(), LONGEST_GRADIENT)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1

    def measured(self, kl: float) -> None:
        """Record a held-out measurement of the proxy's current state."""
        self.stale = 0 if kl < ENOUGH * self.kl else self.stale + 1
        if kl < self.kl:
            self.kl = kl
            for name, weight in self._weights.items():
                self._best[name].copy_(local(weight.detach()))

    def finish(self) -> None:
        """Put the proxy into its best state and freeze it."""
        self._load(self._best)
        self._model.train(mode=False)
        self._model.requires_grad_(False)

    def checkpoint(self) -> Checkpoint:
        """Return the current state; it shares the weights' memory. Processes with divided layers call it together."""
        tensors: dict[str, torch.Tensor] = {}
        for name, weight in self._weights.items():
            parts = {"proxy": weight.detach(), "best": self._best[name], **self._optimizer.state[weight]}
            tensors |= {f"{kind}/{name}": gathered(part, weight) for kind, part in parts.items()}
        return Checkpoint(self.step, self.kl, self.stale, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Set the state to that of `checkpoint`."""
        self.step, self.kl, self.stale = checkpoint.step, checkpoint.kl, checkpoint.stale
        stored = checkpoint.tensors
        for name, weight in self._weights.items():
            self._best[name] = local(like(weight, stored[f"best/{name}"])).cpu()
            known = [kind for kind in _ADAM if f"{kind}/{name}" in stored]
            self._optimizer.state[weight] = {kind: like(weight, stored[f"{kind}/{name}"]) for kind in known}
        self._load(
            {name: local(like(weight, stored[f"proxy/{name}"])) for name, weight in self._weights.items()}
        )

    @torch.no_grad()
    def _load(self, state: dict[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            local(weight).copy_(state[name])


class Pace:
    """How fast a distillation goes: tokens, padding excluded, and seconds since it was begun or continued."""

    def __init__(self, step: int, steps: int) -> None:
        """Begin at `step` of at most `steps`."""
        self._first, self._steps = step, steps
        self._tokens, self._start = 0, time.monotonic()

    def took(self, parts: Sequence[Exercise]) -> None:
        """Count the tokens of one step."""
        self._tokens += sum(int(part.mask.sum()) for part in parts)

    def tell(self, step: int, kl: float) -> None:
        """Log the held-out KL after `step`, tokens a second, and the time left if no plateau ends it earlier."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        left = time_left(seconds, step - self._first, self._steps - step)
        logger.info(
            "step %d of %d: held-out KL %.3f nats, %.0f tokens a second, at most %s left",
            step, self._steps, kl, self._tokens / seconds, left,
        )  # fmt: skip


def _trained(proxy: LanguageModel, settings: DistilSettings) -> dict[str, nn.Parameter]:
    """Return the trained parameters by name; a tied parameter has one name and is frozen with either part.

    Parts that the model does not have are ignored.
    """
    parts = {
        "embeddings": proxy.model.get_input_embeddings(),
        "head": proxy.model.get_output_embeddings(),  # type: ignore[no-untyped-call]
    }
    frozen = {
        id(weight)
        for name in settings.freeze
        if (part := parts[name]) is not None
        for weight in part.parameters()
    }
    trained = {name: weight for name, weight in proxy.model.named_parameters() if id(weight) not in frozen}
    for weight in trained.values():
        weight.requires_grad_(True)
    return trained


def _warmed_cosine(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return max(0.02, 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))
