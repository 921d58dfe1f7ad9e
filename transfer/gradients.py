"""Each record's own gradient with respect to the prompt in front of it.

It comes from the *expand* form: the prompt is repeated to a leaf [B, P, H], one copy a record, and the gradient
of the summed per-record losses with respect to that leaf holds each record's own gradient exactly. No hooks are
involved, so nothing can silently average over the batch (as PEFT's prompt tuning under Opacus does), and the
shape is checked every time.

Letters: B records of a physical batch, P prompt tokens (and the rows of a head where the task is read by one),
H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from transfer.batches import FORWARD_TOKENS, Line, physical_batches
from transfer.errors import PromptferryError
from transfer.models import LanguageModel
from transfer.objectives import answer_loss, label_loss
from transfer.reading import Reading, copies


@dataclass(frozen=True, slots=True, eq=False)
class LabelledLines:
    """Encoded records and what the loss needs to know: words of each class, labels by record.

    Without words the answers are free text: the goals of the lines.
    """

    lines: Sequence[Line]
    labels: torch.Tensor
    words: Reading | None

    def batches(
        self, included: Sequence[int], prompt_length: int, forward_tokens: int = FORWARD_TOKENS
    ) -> Iterator[list[int]]:
        """The included records in groups of one forward pass each."""
        return physical_batches(self.lines, included, prompt_length, copies(self.words), forward_tokens)


def per_record_gradients(
    model: LanguageModel, data: LabelledLines, group: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Gradient [B, P, H] of each record's own loss with respect to the prompt; zeros(0, P, H) for no record.

    Raises:
        PromptferryError: the gradient is not one [P, H] a record, so clipping would bound something else.
    """
    shape = (len(group), *vectors.shape)
    if not group:
        return vectors.new_zeros(shape)
    batch = model.collate([data.lines[index] for index in group])
    rows = vectors.detach().expand(shape).clone().requires_grad_(True)  # [B, P, H], one copy a record
    logits, goal = model.logits(batch, rows, data.words), batch.goal
    losses = (
        label_loss(logits, data.labels[list(group)]) if goal is None else answer_loss(logits, goal)
    )  # [B]
    (gradients,) = torch.autograd.grad(losses.sum(), rows)
    if gradients.shape != shape:
        raise PromptferryError(
            f"per-record gradients are {tuple(gradients.shape)}, expected {shape}: refusing to clip"
        )
    return gradients
