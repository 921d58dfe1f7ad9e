"""Distillation: a cut of the target learns the target's own answers on public text (POST stage 1).

Letters: B sequences, T tokens, P prompt tokens, N read positions, H hidden size, V vocabulary.

The loss is 5·KL + 2·LM + 1·cosine at temperature 2 (Sanh et al. 2019, https://arxiv.org/abs/1910.01108; weights as in
POST §5). Without an LM head there is no LM term, and the KL compares which texts of a batch are alike
(`transfer.models.objectives.relations`). Input embeddings and LM head are frozen by default: prompts are written in
the first and read through the second, so both must mean the same in both models.

Random choices depend on the seed and the number of the step alone. On one machine, a distillation continued from a
checkpoint thus gives the same proxy, bit for bit, as an uninterrupted one.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from transfer.distillation.checkpoint import Checkpoints
from transfer.distillation.comparison import Comparison
from transfer.distillation.divided_layers import divided_layers
from transfer.distillation.exercises import PASS_TOKENS, Exercise, exercises, in_pieces, shuffled
from transfer.distillation.layers import layers_of
from transfer.distillation.processes import ALONE, Processes
from transfer.distillation.proxy import Proxy, cut
from transfer.distillation.settings import DistilSettings, checkpoints_of
from transfer.distillation.training_state import Pace, TrainingState
from transfer.distillation.weights import round_as_stored, share_frozen, uncached
from transfer.errors import AlreadyExistsError
from transfer.files.atomic import appearing
from transfer.files.public_text import PublicText
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.self_check import require_same, require_sound
from transfer.placement.devices import numbers_of
from transfer.progress import OnStep, progress
from transfer.tokens.corpus import Corpus

__all__ = ["DistilSettings", "distil", "make"]

T = TypeVar("T")
LEAST_RELATED = 8
"""Fewest held-out texts of a model without an LM head, whose measurement compares texts with each other."""


def make(
    target: LanguageModel,
    layers: int | Sequence[int],
    texts: Sequence[str] | PublicText,
    settings: DistilSettings,
    place: Path,
    *,
    resume: bool = False,
    on_step: OnStep = lambda _step, _steps: None,
    processes: Processes = ALONE,
) -> Proxy:
    """Distil a proxy of `target` on public `texts` into the new directory `place`, whole or not at all.

    `layers` is the number of layers to keep, or their indices. Checkpoints are in a hidden directory beside `place`
    until the proxy is complete; with `resume`, a distillation continues from the last. Only the first process writes.

    Raises:
        ModelError: there is too little text, the target has no such layers, or it fails its self-check.
        DataError: the text cannot be read again, or it changed.
        AlreadyExistsError: there is an unfinished distillation and `resume` is False.
        UsageError: the unfinished distillation has another recipe, or the directory cannot be written.
    """
    require_sound(target)
    unfinished = checkpoints_of(place)
    if unfinished.exists() and not resume:
        raise AlreadyExistsError(f"{unfinished} holds an unfinished distillation: --resume it, or remove it")
    chosen = layers_of(layers, target.layers)
    proxy = distil(
        target, chosen, texts, settings, lambda at, _: on_step(at, settings.steps), unfinished, processes
    )
    if not processes.first:
        return proxy
    with appearing(place) as draft:
        stored = proxy.save(draft)
        require_same(proxy.model, load(draft))
    shutil.rmtree(unfinished, ignore_errors=True)
    return stored


def distil(
    target: LanguageModel,
    layers: Sequence[int],
    texts: Sequence[str] | PublicText,
    settings: DistilSettings,
    on_progress: Callable[[int, float], None] = lambda _step, _kl: None,
    unfinished: Path | None = None,
    processes: Processes = ALONE,
) -> Proxy:
    """Distil a cut of `target` on public `texts`; with `settings.steps` = 0 the cut is not trained.

    `on_progress(step, held_out_kl)` is called after every step with the best held-out KL so far, in nats. Checkpoints
    go to the directory `unfinished`, and training continues from the one in it. Layers that are divided remain so.

    Raises:
        ModelError: there is too little text, the target has no such layers, or it has too few positions.
        UsageError: the checkpoint has another recipe, or a process has another text, target or checkpoint.
    """
    public = PublicText.of(texts)
    sequences = shuffled(target, public, settings)
    count = max(LEAST_RELATED if target.lm_head == "none" else 1, min(256, len(sequences) // 20))
    name = f"{target.ref.name}-proxy-{len(layers)}"
    proxy = LanguageModel(
        cut(target, layers), target.tokenizer, replace(target.ref, name=name), target.lm_head
    )
    run = _Distillation(target, proxy, settings, processes)
    held_out = list(run.held_out(sequences[:count]))
    steps = 0
    with uncached(target.model, proxy.model):
        if settings.steps:
            recipe = {"target": target.ref.digest, "numbers": numbers_of(target.model), "layers": layers}
            recipe |= {"texts": public.digest, **asdict(settings)}
            processes.require_same("target, text or recipe", recipe)
            checkpoints = Checkpoints(unfinished, recipe, processes.first) if unfinished else None
            with divided_layers(target.model, proxy.model, processes):
                steps = run.train(sequences[count:], held_out, checkpoints, on_progress)
            round_as_stored(proxy.model)
        kl, perplexity, target_perplexity = run.measure(held_out)
    return Proxy(proxy, target.ref, tuple(layers), kl, perplexity, target_perplexity, steps)


@dataclass(frozen=True, slots=True, eq=False)
class _Distillation:
    """One distillation: the target, the proxy, which is trained in place, and the settings."""

    target: LanguageModel
    proxy: LanguageModel
    settings: DistilSettings
    processes: Processes = ALONE

    def train(
        self,
        sequences: Corpus,
        held_out: Sequence[Exercise],
        checkpoints: Checkpoints | None,
        on_progress: Callable[[int, float], None],
    ) -> int:
        """Train the proxy to its best held-out state and freeze it; return the number of steps taken."""
        model, settings = self.proxy.model, self.settings
        state = TrainingState(self.proxy, settings)
        share_frozen(model, self.target.model)
        checkpoint = checkpoints.read() if checkpoints else None
        self.processes.require_same("checkpoint", checkpoint and checkpoint.step)
        if checkpoint is None:
            state.measured(self.measure(held_out)[0])
        else:
            state.restore(checkpoint)
        batches = islice(self._endless(sequences), state.step * settings.accumulate, None)
        pace = Pace(state.step, settings.steps)
        while not state.over:
            seed = settings.seed * 1_000_003 + state.step + (self.processes.rank << 40)
            torch.manual_seed(seed)  # dropout; no privacy depends on it
            model.train(mode=True)
            parts = list(islice(batches, settings.accumulate))
            self.learn(parts)
            pace.took(parts)
            self.processes.add_gradients(model.parameters())
            state.descend()
            model.train(mode=False)
            if state.step % settings.check_every == 0 or state.step == settings.steps:
                kl = self.measure(held_out)[0]
                state.measured(kl)
                pace.tell(state.step, kl)
                if checkpoints:
                    checkpoints.save(state.checkpoint())
            on_progress(state.step, state.kl)
        state.finish()
        return state.step

    def learn(self, parts: Sequence[Exercise]) -> torch.Tensor:
        """Set the proxy's gradient to this process's share of that of a batch with all `parts`; return its terms [3].

        The three terms are means over logits, positions with a goal, and tokens. A part counts by its share of these.
        The exception is the similarity of texts, which is compared within each part. Where memory runs out, the share
        begins again in smaller pieces.
        """
        if not self._headless:
            longest = PASS_TOKENS if self.proxy.device.type == "cpu" else None
            parts = [piece for part in parts for piece in part.pieces(longest, self.processes.count)]
        sizes = torch.tensor([self._sizes(part) for part in parts]).sum(dim=0)  # [3]
        shared = list(self.processes.share(len(parts)))
        own = [parts[number] for number, counted in shared if counted]
        terms = self._fitted(own, partial(self._learn, sizes))
        for number in [number for number, counted in shared if not counted]:
            self.comparison.learn(parts[number], self.settings.temperature, torch.zeros(3))
        return terms

    def _learn(self, sizes: torch.Tensor, parts: Sequence[Exercise]) -> torch.Tensor:
        self.proxy.model.zero_grad()  # memory may have run out behind the first of them
        terms, weights = torch.zeros(3), torch.tensor(self.settings.weights)
        for part in parts:
            share = torch.tensor(self._sizes(part)) / sizes
            terms += share * self.comparison.learn(part, self.settings.temperature, share * weights)
        return terms

    def _fitted(self, parts: Sequence[Exercise], run: Callable[[Sequence[Exercise]], T]) -> T:
        """Return `run(parts)`, in pieces that fit into memory; processes with divided layers cannot choose alone."""
        return run(parts) if self.processes.divided else in_pieces(self.proxy, parts, run)

    def _sizes(self, part: Exercise) -> list[int]:
        """Return the number of values that each term of a part is a mean of."""
        rows = len(part.ids) if self._headless else len(part.rows)
        return [rows, len(part.restorable.rows), int(part.mask.sum())]

    @property
    def _headless(self) -> bool:
        return self.target.lm_head == "none"

    @property
    def comparison(self) -> Comparison:
        """Target and proxy, compared in the precision of the settings."""
        return Comparison(self.target, self.proxy, self.settings.precision == "bf16")

    def measure(self, parts: Sequence[Exercise]) -> tuple[float, float | None, float | None]:
        """Measure on held-out batches: KL(target ‖ proxy) at T = 1 in nats per row, and both perplexities."""
        sums = torch.zeros(4)  # rows, and the sums over them
        with progress("measuring on held-out text") as show:
            for number, counted in self.processes.share(len(parts)):
                rows, found = self._measured(parts[number])
                sums += counted * torch.cat([torch.tensor([rows]), found])
                show(number + 1, len(parts))
        sums = self.processes.sum(sums)
        kl, ours, theirs = (sums[1:] / sums[0]).tolist()
        return (kl, None, None) if self._headless else (kl, math.exp(ours), math.exp(theirs))

    def _measured(self, part: Exercise) -> tuple[int, torch.Tensor]:
        comparison = Comparison(self.target, self.proxy)  # float32 for all recipes
        found = self._fitted([part], lambda pieces: [comparison.measure(piece) for piece in pieces])
        return sum(rows for rows, _ in found), torch.stack([sums for _, sums in found]).sum(dim=0)

    def held_out(self, sequences: Corpus) -> Iterator[Exercise]:
        """Yield the held-out batches: of one size, without a prompt, read at positions with a goal."""
        plain = replace(self.settings, prompted_share=0.0, batch_tokens=DistilSettings().batch_tokens)
        for exercise in exercises(self.target, sequences, plain, torch.Generator().manual_seed(1)):
            yield exercise.restorable

    def _endless(self, sequences: Corpus) -> Iterator[Exercise]:
        generator = torch.Generator().manual_seed(self.settings.seed)
        while True:
            yield from exercises(self.target, sequences, self.settings, generator)
