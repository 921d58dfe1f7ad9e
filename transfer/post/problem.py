"""What a prompt is learnt on: fixed texts, a loss for each of them, and a split that never moves.

Letters: N texts, B of them in a step, P prompt tokens, H hidden size, V vocabulary or C classes.

Everything that does not depend on the prompt stands in here, computed once, so prompts that start elsewhere or
have another teacher beside them are compared on the very same texts, in the very same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Line
from transfer.tokens.readout import Reading, copies

Losses = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
"""(logits [N, V] or [B, C] at the answers of some texts, the B indices of those) → the loss of each, [B]."""
LEAST_TEXTS = 10


def check_enough(texts: Sequence[str]) -> None:
    """Refuse fewer public texts than can be split.

    Raises:
        UsageError: see above.
    """
    if len(texts) < LEAST_TEXTS:
        raise UsageError(
            f"{len(texts)} public texts are too few to transfer with; {LEAST_TEXTS} are the least"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Find the prompt of `target` with the least mean loss over `lines`.

    Attributes:
        lines: the N texts as the target reads them.
        words: label words of the classes, or None if logits are over the vocabulary.
        losses: of each text; its gradient reaches nothing but the logits it is given.
        settings: of the descent; those of the loss are in `losses` already.
        order: the N indices, shuffled; the first `held` only measure, the others are trained on.
        shuffler: state of the random generator that goes on from there.
    """

    target: LanguageModel
    lines: Sequence[Line]
    words: Reading | None
    losses: Losses
    settings: TransferSettings
    order: torch.Tensor
    held: int
    shuffler: torch.Tensor

    @staticmethod
    def over(
        target: LanguageModel,
        lines: Sequence[Line],
        words: Reading | None,
        losses: Losses,
        settings: TransferSettings,
    ) -> "Problem":
        """The problem with the split that `settings` fixes; call `check_enough` before anything is computed."""
        generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(lines), generator=generator)
        held = min(len(lines) - 1, max(2, round(settings.held_out * len(lines))))
        return Problem(target, lines, words, losses, settings, order, held, generator.get_state())

    @property
    def held_out(self) -> list[int]:
        """The texts that only measure."""
        return self.order[: self.held].tolist()

    @property
    def trained(self) -> list[int]:
        """The texts that are trained on."""
        return self.order[self.held :].tolist()

    def batches(self) -> Iterator[list[int]]:
        """Texts of one step after the other, each text once before any again; the same at every call."""
        generator = torch.Generator()
        generator.set_state(self.shuffler)
        train, size = self.order[self.held :], self.settings.batch_size
        queue = train.new_empty(0)
        while True:
            if len(queue) < min(size, len(train)):
                queue = torch.cat([queue, train[torch.randperm(len(train), generator=generator)]])
            yield queue[:size].tolist()
            queue = queue[size:]

    def gradients(self, vectors: torch.Tensor, chosen: Sequence[int], *others: Losses) -> list[torch.Tensor]:
        """Gradients [P, H] of the chosen texts' mean loss, and of the mean of each other loss beside it.

        One forward pass serves all; `vectors` [P, H] must require a gradient.
        """
        terms = (self.losses, *others)
        found = [torch.zeros_like(vectors) for _ in terms]
        for part in self._parts(vectors.shape[0], chosen):  # one pass each bounds memory
            logits = self._logits(vectors, part)
            for place, term in enumerate(terms):
                loss = term(logits, part).sum() / len(chosen)
                found[place] += torch.autograd.grad(loss, vectors, retain_graph=place + 1 < len(terms))[0]
        return found

    @torch.no_grad()
    def losses_of(self, vectors: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        """Loss of each chosen text behind `vectors` [P, H]: [len(chosen)] in float64."""
        place = {index: at for at, index in enumerate(chosen)}
        found = torch.empty(len(chosen), dtype=torch.float64)
        for part in self._parts(vectors.shape[0], chosen):
            losses = self.losses(self._logits(vectors, part), part)
            found[[place[index] for index in part]] = losses.double()
        return found

    def held_out_loss(self, vectors: torch.Tensor) -> float:
        """Mean loss over the texts that only measure."""
        return self.losses_of(vectors, self.held_out).mean().item()

    def answers(self, prompt: SoftPrompt | None) -> torch.Tensor:
        """The target's logits [N, V] or [N, C] on every text: a constant, outside any graph."""
        return self.target.answer_logits(self.lines, prompt, self.words)

    def _logits(self, vectors: torch.Tensor, part: Sequence[int]) -> torch.Tensor:
        batch = self.target.collate([self.lines[index] for index in part])
        return self.target.logits(batch, vectors.expand(len(batch), -1, -1), self.words)

    def _parts(self, length: int, chosen: Sequence[int]) -> Iterator[list[int]]:
        """The chosen texts in groups of similar length, so that little is padding."""
        return self.target.groups(self.lines, chosen, length, copies(self.words))
