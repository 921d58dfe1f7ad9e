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

from transfer.errors import PromptferryError
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import answer_loss, label_loss
from transfer.models.passes import Passes, filled
from transfer.tokens.batches import FORWARD_TOKENS, Batch, Line
from transfer.tokens.readout import Reading, copies


@dataclass(frozen=True, slots=True, eq=False)
class LabelledLines:
    """Encoded records and what the loss needs to know: words of each class, labels by record.

    Without words the answers are free text: the goals of the lines.

    Attributes:
        passes: the shapes in which the records go through a model.
    """

    lines: Sequence[Line]
    labels: torch.Tensor
    words: Reading | None
    passes: Passes = Passes()  # noqa: RUF009 -- frozen

    def batches(
        self, included: Sequence[int], prompt_length: int, forward_tokens: int = FORWARD_TOKENS
    ) -> Iterator[list[int]]:
        """The included records in groups for `per_record_gradients`, each of ≤ `forward_tokens` if one record is.

        Which group a record is in changes nothing of its gradient.
        """
        rows = copies(self.words)
        for shape, group in self.passes.groups(self.lines, included, prompt_length, rows):
            most = max(1, forward_tokens // ((shape.tokens + prompt_length) * rows))
            yield from (group[start : start + most] for start in range(0, len(group), most))


def per_record_gradients(
    model: LanguageModel, data: LabelledLines, group: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Gradient [B, P, H] of each record's own loss with respect to the prompt; zeros(0, P, H) for no record.

    Guarantee: a record's gradient is a function of that record, `vectors`, the model and `data.passes`, bit for
    bit on one machine with one number of threads, whoever else is in the group and in whatever order.

    Raises:
        PromptferryError: the gradient is not one [P, H] a record, so clipping would bound something else.
        ModelError: prompt and line together are longer than the model has positions.
    """
    lines = [data.lines[index] for index in group]
    found = torch.zeros(len(lines), *vectors.shape)
    whose, manners = torch.as_tensor(group, dtype=torch.long), model.manners(vectors.shape[0])
    for shape, members in data.passes.groups(
        lines, range(len(lines)), len(vectors), copies(data.words), manners
    ):
        batch = filled([lines[place] for place in members], shape, model.pad_id)
        labels = torch.zeros(shape.records, dtype=torch.long)  # a blank row's label is any
        if batch.goal is None:
            labels[: len(members)] = data.labels[whose[members]]
        found[members] = _gradients(model, batch, labels, data.words, vectors)[: len(members)].float()
    return found


def _gradients(
    model: LanguageModel, batch: Batch, labels: torch.Tensor, words: Reading | None, vectors: torch.Tensor
) -> torch.Tensor:
    """Gradients [B, P, H] of one pass, those of blank rows among them."""
    shape = (len(batch), *vectors.shape)
    rows = vectors.detach().expand(shape).clone().requires_grad_(True)  # [B, P, H], one copy a record
    logits, goal = model.logits(batch, rows, words), batch.goal
    losses = label_loss(logits, labels) if goal is None else answer_loss(logits, goal)  # [B]
    (gradients,) = torch.autograd.grad(losses.sum(), rows)
    if gradients.shape != shape:
        raise PromptferryError(
            f"per-record gradients are {tuple(gradients.shape)}, expected {shape}: refusing to clip"
        )
    return gradients
