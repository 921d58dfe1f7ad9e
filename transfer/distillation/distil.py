"""Distillation: a cut of the target learns the target's own answers on public text (POST stage 1).

Letters: B sequences, T tokens, P prompt tokens, N read positions, H hidden size, V vocabulary.

The loss is 5·KL + 2·LM + 1·cosine at temperature 2 (Sanh et al. 2019, https://arxiv.org/abs/1910.01108;
weights as in POST §5). Where there is no LM head, the KL is that of which texts of a batch are alike
(`transfer.models.objectives.relations`), and there is no LM term. Input embeddings and LM head stay frozen
unless told
otherwise: a prompt lives among the first and is read through the second, and both models must mean the same by
them.

Whatever is drawn depends on the seed and the number of the step alone, so a distillation that goes on from a
checkpoint makes, on the same machine, bit for bit the proxy that an uninterrupted one would have made.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from transfer.distillation.checkpoint import Checkpoints
from transfer.distillation.exercises import UNTOLD, Exercise, compared, exercises, sequences_of
from transfer.distillation.proxy import Proxy, cut, spread
from transfer.distillation.settings import LEAST_TOKENS, DistilSettings, checkpoints_of
from transfer.distillation.training_state import TrainingState
from transfer.errors import AlreadyExistsError, ModelError
from transfer.files.atomic import appearing
from transfer.models.language_model import LanguageModel, load
from transfer.models.objectives import cosine_distance, divergence
from transfer.models.self_check import require_same, require_sound
from transfer.progress import OnStep, doing, progress
from transfer.tokens.batches import Line

__all__ = ["DistilSettings", "distil", "make"]

LEAST_SEQUENCES = 20
LEAST_RELATED = 8
"""Fewest held-out texts where it is measured which of them are alike."""


def make(
    target: LanguageModel,
    layers: int | Sequence[int],
    texts: Sequence[str],
    settings: DistilSettings,
    place: Path,
    *,
    resume: bool = False,
    on_step: OnStep = lambda _step, _steps: None,
) -> Proxy:
    """Distil a proxy of `target` on public `texts`; `place` appears with it, whole or not at all.

    `layers` says how many layers to keep, or their indices. Checkpoints lie in a hidden directory beside
    `place` until it appears; with `resume` a distillation goes on from there.

    Raises:
        ModelError: too little text, no such layers, or the target fails its self-check.
        AlreadyExistsError: an unfinished one is there and `resume` was not said.
        UsageError: the unfinished one is of another recipe, or the directory cannot be written.
    """
    require_sound(target)
    unfinished = checkpoints_of(place)
    if unfinished.exists() and not resume:
        raise AlreadyExistsError(f"{unfinished} holds an unfinished distillation: --resume it, or remove it")
    kept = spread(layers, target.layers) if isinstance(layers, int) else layers
    made = distil(target, kept, texts, settings, lambda step, _kl: on_step(step, settings.steps), unfinished)
    with appearing(place) as draft:
        stored = made.save(draft)
        require_same(made.model, load(draft))
    shutil.rmtree(unfinished, ignore_errors=True)
    return stored


def distil(
    target: LanguageModel,
    layers: Sequence[int],
    texts: Sequence[str],
    settings: DistilSettings,
    on_progress: Callable[[int, float], None] = lambda _step, _kl: None,
    unfinished: Path | None = None,
) -> Proxy:
    """Distil a cut of `target` on public `texts`; an undistilled cut if `settings.steps` is 0.

    `on_progress(step, held_out_kl)` is called after every step with the best held-out KL so far, in nats.
    Checkpoints go to the directory `unfinished`, if given, and are gone on from.

    Raises:
        ModelError: too little text, no such layers, or sequences longer than the model has positions.
        UsageError: the checkpoint is of another recipe.
    """
    with doing("reading the public text"):
        sequences = _shuffled(target, texts, settings)
    held = max(LEAST_RELATED if target.lm_head == "none" else 1, min(256, len(sequences) // 20))
    name = f"{target.ref.name}-proxy-{len(layers)}"
    proxy = LanguageModel(
        cut(target, layers), target.tokenizer, replace(target.ref, name=name), target.lm_head
    )
    run = _Distillation(target, proxy, settings)
    held_out = list(run.held_out(sequences[:held]))
    steps = 0
    if settings.steps:
        told = {"target": target.ref.digest, "layers": layers, "texts": _digest(texts)}
        kept = Checkpoints(unfinished, told | asdict(settings)) if unfinished else None
        steps = run.train(sequences[held:], held_out, kept, on_progress)
    kl, perplexity, target_perplexity = run.measure(held_out)
    return Proxy(proxy, target.ref, tuple(layers), kl, perplexity, target_perplexity, steps)


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
        checkpoints: Checkpoints | None,
        on_progress: Callable[[int, float], None],
    ) -> int:
        """Train the proxy, leave it in its best held-out state and frozen; return the steps taken."""
        model, settings = self.proxy.model, self.settings
        course = TrainingState(self.proxy, settings)
        found = checkpoints.read() if checkpoints else None
        if found is None:
            course.measured(self.measure(held_out)[0])
        else:
            course.restore(found)
        batches = islice(self._endless(sequences), course.step * settings.accumulate, None)
        while not course.over:
            torch.manual_seed(settings.seed * 1_000_003 + course.step)  # dropout; no privacy depends on it
            model.train(mode=True)
            for loss in self.losses(list(islice(batches, settings.accumulate))):
                loss.backward()  # type: ignore[no-untyped-call]
            course.descend()
            model.train(mode=False)
            if course.step % settings.check_every == 0 or course.step == settings.steps:
                course.measured(self.measure(held_out)[0])
                if checkpoints:
                    checkpoints.save(course.checkpoint())
            on_progress(course.step, course.kl)
        course.finish()
        return course.step

    def losses(self, parts: Sequence[Exercise]) -> Iterator[torch.Tensor]:
        """The weighted three terms, part by part: their sum is the loss of one batch of all `parts`.

        Each term is a mean, over logits, told positions and tokens; a part counts by its share. Only which texts
        are alike is asked within each part alone.
        """
        sizes = torch.tensor([self._sizes(part) for part in parts])
        shares = sizes / sizes.sum(dim=0) * torch.tensor(self.settings.weights)
        for part, share in zip(parts, shares, strict=True):
            yield share @ self.terms(part)

    def _sizes(self, part: Exercise) -> list[int]:
        """How much each term of a part is the mean of."""
        rows = len(part.ids) if self._headless else len(part.rows)
        return [rows, len(part.told.rows), int(part.mask.sum())]

    @property
    def _headless(self) -> bool:
        return self.target.lm_head == "none"

    def terms(self, part: Exercise) -> torch.Tensor:
        """KL, LM and cosine term [3] of one batch."""
        with torch.no_grad():
            reference, reference_states = self._read(self.target, part)
        logits, states = self._read(self.proxy, part)
        kept = part.mask.bool()
        return torch.stack(
            [
                divergence(reference, logits, self.settings.temperature),
                logits.new_zeros(()) if self._headless else _surprise(logits, part.goal),
                cosine_distance(reference_states[kept], states[kept]),
            ]
        )

    @torch.no_grad()
    def measure(self, parts: Sequence[Exercise]) -> tuple[float, float | None, float | None]:
        """KL(target ‖ proxy) at T = 1 in nats a row of logits, and the perplexity of each, on held-out batches."""
        total, sums = 0, torch.zeros(3)
        with progress("measuring on held-out text") as show:
            for number, part in enumerate(parts, 1):
                reference, logits = (compared(model, part)[0] for model in (self.target, self.proxy))
                told = (
                    () if self._headless else (_surprise(logits, part.goal), _surprise(reference, part.goal))
                )
                values = torch.stack([divergence(reference, logits, 1.0), *told])
                sums[: len(values)] += len(logits) * values
                total += len(logits)
                show(number, len(parts))
        kl, ours, theirs = (sums / total).tolist()
        return (kl, None, None) if self._headless else (kl, math.exp(ours), math.exp(theirs))

    def held_out(self, sequences: Sequence[Line]) -> Iterator[Exercise]:
        """What is measured on: read without a prompt, where a token is told, in batches of one size."""
        plain = replace(self.settings, prompted_share=0.0, batch_tokens=DistilSettings().batch_tokens)
        for exercise in exercises(self.target, sequences, plain, torch.Generator().manual_seed(1)):
            yield exercise.told

    def _endless(self, sequences: Sequence[Line]) -> Iterator[Exercise]:
        generator = torch.Generator().manual_seed(self.settings.seed)
        while True:
            yield from exercises(self.target, sequences, self.settings, generator)

    def _read(self, model: LanguageModel, part: Exercise) -> tuple[torch.Tensor, torch.Tensor]:
        """`compared` in the precision of the settings; float32 again afterwards."""
        reduced = self.settings.precision == "bf16"
        with torch.autocast(model.model.device.type, torch.bfloat16, enabled=reduced):
            logits, states = compared(model, part)
        return logits.float(), states.float()


def _surprise(logits: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, goal, ignore_index=UNTOLD)


def _shuffled(target: LanguageModel, texts: Sequence[str], settings: DistilSettings) -> list[Line]:
    """Sequences of the texts in an order of the seed."""
    sequences = sequences_of(target, texts, settings.sequence_tokens)
    if len(sequences) < LEAST_SEQUENCES:
        raise ModelError(
            f"{len(sequences)} sequences of public text, {LEAST_TOKENS} tokens or more, are too few to distil on; "
            f"{LEAST_SEQUENCES} are the least"
        )
    longest = max(len(line.ids) for line in sequences)
    longest += settings.prompted_tokens if settings.prompted_share else 0
    target.require_positions(longest, "lower sequence_tokens")
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    return [sequences[index] for index in order]


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
