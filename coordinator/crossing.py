"""From the proxy to the target: the aggregate is transferred, and compared, on public text alone."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from coordinator.plan import CampaignPlan
from transfer.models import LanguageModel
from transfer.post import TransferSettings, held_out_losses, transfer
from transfer.prompt import ModelRef, SoftPrompt
from transfer.texts import read_texts

TRANSFERRED, START, DIRECT, RANDOM = "transferred", "start", "direct", "random"


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """A prompt on the other side.

    Attributes:
        prompt: of the target.
        proxy: the model it was tuned on.
        causal: how the target is read.
        losses: held-out transfer loss of the transferred prompt, of its start, of a random prompt, and of the
            proxy's own vectors where the widths are equal.
        best_step: step the prompt was taken from.
        settings: how it was transferred.
        texts: number of public texts, `texts_digest` the SHA-256 of their file.
    """

    prompt: SoftPrompt
    proxy: ModelRef
    causal: bool
    losses: Mapping[str, float]
    best_step: int
    settings: TransferSettings
    texts: int
    texts_digest: str

    @property
    def shortcoming(self) -> str | None:
        """Why the prompt is not worth publishing, or None if it beats every baseline on held-out text."""
        ours = self.losses[TRANSFERRED]
        beaten_by = [
            f"{name} {loss:.4g}"
            for name, loss in self.losses.items()
            if name != TRANSFERRED and not ours < loss
        ]
        if not beaten_by:
            return None
        return (
            f"held-out public loss {ours:.4g} of the transferred prompt is not below {', '.join(beaten_by)}"
        )

    @property
    def summary(self) -> str:
        """The losses in one line."""
        return ", ".join(f"{name} {loss:.4g}" for name, loss in self.losses.items())


def cross(
    prompt: SoftPrompt,
    proxy: LanguageModel,
    target: LanguageModel,
    plan: CampaignPlan,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> Crossing:
    """Transfer `prompt` from `proxy` to `target` as the plan says, and measure it beside its baselines.

    Raises:
        DataError: the public text cannot be read.
        UsageError: it is too little.
        TaskError: the label words do not fit one of the tokenisers.
    """
    path, settings = Path(plan.public_text), plan.transfer
    texts = read_texts(path)
    moved = transfer(prompt, proxy, target, plan.task, texts, settings, on_step)
    generator = torch.Generator().manual_seed(settings.seed)
    candidates = {RANDOM: target.vocabulary_prompt(prompt.length, generator)}
    if prompt.width == target.width:
        candidates[DIRECT] = SoftPrompt(prompt.vectors, target.ref)
    baselines = held_out_losses(candidates, prompt, proxy, target, plan.task, texts, settings)
    return Crossing(
        prompt=moved.prompt,
        proxy=proxy.ref,
        causal=target.causal,
        losses={TRANSFERRED: moved.held_out_loss, START: moved.start_loss, **baselines},
        best_step=moved.best_step,
        settings=settings,
        texts=len(texts),
        texts_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
