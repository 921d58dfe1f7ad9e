"""The problem a transfer solves: fixed texts, a loss for each of them, and a fixed split.

Letters: N texts, B of them in a step, F formats of each, P prompt tokens, H hidden size, V vocabulary or C classes.

A `Problem` holds everything that does not depend on the prompt. Prompts with another start or an additional guide are
thus compared on the same texts in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.models.on_disk import on_disk
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Line
from transfer.tokens.encoder import Encoder
from transfer.tokens.readout import Reading, copies
from transfer.wording.formats import formats, in_formats

T = TypeVar("T")
Losses = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""(logits [N, V] or [B, C] at the answers of B texts, the indices of these texts) → the loss [B] of each text."""
LEAST_TEXTS = 10


def check_enough(texts: Sequence[str]) -> None:
    """Refuse fewer than `LEAST_TEXTS` public texts.

    Raises:
        UsageError: there are too few.
    """
    if len(texts) < LEAST_TEXTS:
        raise UsageError(
            f"{len(texts)} public texts are too few to transfer with, {LEAST_TEXTS} are required; add more"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Find the prompt of `target` with the least mean loss over `lines`.

    Attributes:
        lines: the N texts, encoded for the target in F formats: text n in format f is line f·N + n.
        words: label words of the classes, or None if logits are over the vocabulary.
        losses: the loss of each text; its gradient reaches the given logits only.
        settings: settings of the descent; `losses` already uses those of the loss.
        order: the N indices, shuffled; the first `held_out_count` measure, the others train.
        shuffler: state of the random generator after the split, from which `batches` continues.
        formats: F; the first is the task's own. A text's answers are the same in all of them, and so is its part of
            the split. Texts that only measure are read in the first.
        bare: the target's logits without a prompt, as `answers` returns them, where the losses needed them.
    """

    target: LanguageModel
    lines: Sequence[Line]
    words: Reading | None
    losses: Losses
    settings: TransferSettings
    order: torch.Tensor
    held_out_count: int
    shuffler: torch.Tensor
    formats: int = 1
    bare: torch.Tensor | None = None

    @staticmethod
    def over(
        target: LanguageModel,
        lines: Sequence[Line],
        words: Reading | None,
        losses: Losses,
        settings: TransferSettings,
    ) -> "Problem":
        """Return the problem with the split that `settings` fix; call `check_enough` first."""
        generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(lines), generator=generator)
        # both parts have a text whatever the share, and a mean of fewer than two measures little
        count = min(len(lines) - 1, max(2, round(settings.held_out * len(lines))))
        return Problem(target, lines, words, losses, settings, order, count, generator.get_state())

    def in_formats(self, encoder: Encoder, texts: Sequence[str]) -> "Problem":
        """Return the same problem with its `texts` in as many formats as the settings ask for and there are.

        The split is by text, so none trains in one format and measures in another. The losses stay: what is imitated
        is known of the task's own format, behind which the prompt was tuned.
        """
        encoders = formats(encoder, self.settings.formats, self.settings.seed)
        lines, settings = (
            in_formats(encoders, texts, self.lines),
            replace(self.settings, formats=len(encoders)),
        )
        return replace(self, lines=lines, settings=settings, formats=len(encoders))

    @property
    def held_out(self) -> list[int]:
        """Indices of the texts that only measure."""
        return self.order[: self.held_out_count].tolist()

    @property
    def trained(self) -> list[int]:
        """Indices of the texts that train."""
        return self.order[self.held_out_count :].tolist()

    def batches(self) -> Iterator[list[int]]:
        """Yield the lines of each step's texts without end; every text occurs once before any occurs again.

        Each text's format is drawn at each step. Every call yields the same batches.
        """
        generator = torch.Generator()
        generator.set_state(self.shuffler)
        train, size = self.order[self.held_out_count :], self.settings.batch_size
        queue = train.new_empty(0)
        while True:
            if len(queue) < min(size, len(train)):
                queue = torch.cat([queue, train[torch.randperm(len(train), generator=generator)]])
            chosen, queue = queue[:size], queue[size:]
            if self.formats > 1:  # without a draw where there is one format: its batches stay what they were
                drawn = torch.randint(self.formats, chosen.shape, generator=generator)
                chosen = drawn * len(self.order) + chosen
            yield chosen.tolist()

    def gradients(self, vectors: torch.Tensor, chosen: Sequence[int], *others: Losses) -> list[torch.Tensor]:
        """Return the gradient [P, H] of the chosen lines' mean loss, then that of the mean of each of the `others`.

        One forward pass serves all losses. `vectors` [P, H] must require a gradient.
        """
        terms = (self.losses, *others)
        gradients = [torch.zeros_like(vectors) for _ in terms]

        def run(part: Sequence[int]) -> list[torch.Tensor]:
            own: list[torch.Tensor] = []
            logits, texts = self._logits(vectors, part), self._texts(part)
            for place, term in enumerate(terms, 1):
                # divided by all chosen texts, not by this part's: the parts then add up to the mean
                loss = term(logits, texts).sum() / len(chosen)
                own += torch.autograd.grad(loss, vectors, retain_graph=place < len(terms))
            return own

        for _part, own in self._in_passes(vectors.shape[0], chosen, run):
            for gradient, more in zip(gradients, own, strict=True):
                gradient += more
        return gradients

    @torch.no_grad()
    def losses_of(self, vectors: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """Return the loss of each chosen line behind `vectors` [P, H]: [len(chosen)] in float64."""
        place = {index: at for at, index in enumerate(chosen)}
        losses = torch.empty(len(chosen), dtype=torch.float64)

        def run(part: Sequence[int]) -> torch.Tensor:
            return self.losses(self._logits(vectors, part), self._texts(part))

        for part, part_losses in self._in_passes(vectors.shape[0], chosen, run):
            losses[[place[index] for index in part]] = part_losses.double()  # back to the order of `chosen`
        return losses

    def held_out_loss(self, vectors: torch.Tensor) -> float:
        """Return the mean loss over the texts that only measure."""
        return self.losses_of(vectors, self.held_out).mean().item()

    def answers(self, prompt: SoftPrompt | None) -> torch.Tensor:
        """Return the target's logits [N, V], on disk, or [N, C] on every text in the first format, no gradient."""
        if prompt is None and self.bare is not None:
            return self.bare
        kept = on_disk if self.words is None else torch.empty
        return self.target.answer_logits(self.lines[: len(self.order)], prompt, self.words, kept)

    def asked(self) -> "Problem":
        """Return the same problem with the bare target's answers at hand, so that nobody asks for them again."""
        return self if self.bare is not None else replace(self, bare=self.answers(None))

    def _texts(self, lines: Sequence[int]) -> list[int]:
        """Return the text of each line."""
        return [line % len(self.order) for line in lines]

    def _logits(self, vectors: torch.Tensor, part: Sequence[int]) -> torch.Tensor:
        batch = self.target.collate([self.lines[index] for index in part])
        # [P, H] → [B, P, H]; expanded rather than copied, so gradients add up in `vectors`
        return self.target.logits(batch, vectors.expand(len(batch), -1, -1), self.words)

    def _in_passes(
        self, length: int, chosen: Sequence[int], run: Callable[[list[int]], T]
    ) -> Iterator[tuple[list[int], T]]:
        """Yield the chosen lines in groups of similar length, with what `run` returns for them."""
        return self.target.size.of_lines(self.lines, chosen, length, copies(self.words), run)
