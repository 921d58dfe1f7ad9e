"""Each record's own gradient with respect to the prompt in front of it.

The prompt is expanded to a leaf [B, P, H], one copy per record. The gradient of the summed per-record losses with
respect to that leaf is exactly each record's own gradient. There are no hooks, so nothing can silently average over
the batch, as PEFT's prompt tuning under Opacus does. The shape is checked every time.

Letters: B records of a pass, P prompt tokens (and the rows of a head, if the task is read by one), H hidden size.
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
    """Encoded records with what their losses need.

    Attributes:
        lines: the encoded records. Without `words` their goals are the answers, in free text.
        labels: class index of each record; not read for free text.
        words: how classes are read; None for free text.
        passes: the shapes in which the records go through a model.
    """

    lines: Sequence[Line]
    labels: torch.Tensor
    words: Reading | None
    passes: Passes = Passes()  # noqa: RUF009 -- frozen

    def batches(
        self, included: Sequence[int], prompt_length: int, forward_tokens: int = FORWARD_TOKENS
    ) -> Iterator[list[int]]:
        """Yield the included records in groups for `per_record_gradients`.

        A group has at most `forward_tokens` tokens, or one record. A record's gradient does not depend on its group.
        """
        rows = copies(self.words)
        for shape, group in self.passes.groups(self.lines, included, prompt_length, rows):
            most = max(1, forward_tokens // ((shape.tokens + prompt_length) * rows))
            yield from (group[start : start + most] for start in range(0, len(group), most))


def per_record_gradients(
    model: LanguageModel, data: LabelledLines, group: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Return the gradient [B, P, H], float32, of each record's own loss with respect to prompt `vectors` [P, H].

    Guarantee:
        A record's gradient is a function of that record, `vectors`, the model and `data.passes` alone. It is the
        same bit for bit whatever other records are in `group`, and in whatever order. This holds on one machine with
        one number of threads, for a model whose `traits` are true for all inputs.

    Edge cases:
        An empty `group` gives zeros [0, P, H]. Gradients are neither clipped nor checked to be finite: a NaN or
        infinite one is returned as it is.

    Raises:
        PromptferryError: the gradient is not one [P, H] per record, so clipping would bound something else.
        ModelError: prompt and line together need more positions than the model has.
    """
    lines = [data.lines[index] for index in group]
    gradients = torch.zeros(len(lines), *vectors.shape)  # [B, P, H], in the order of `group`
    records, manners = torch.as_tensor(group, dtype=torch.long), model.manners(vectors.shape[0])
    for shape, members in data.passes.groups(
        lines, range(len(lines)), len(vectors), copies(data.words), manners
    ):
        batch = filled([lines[place] for place in members], shape, model.pad_id)
        labels = torch.zeros(shape.records, dtype=torch.long)  # any label serves a blank row
        if batch.goal is None:
            labels[: len(members)] = data.labels[records[members]]
        # blank rows stand behind the records: cut theirs off
        gradients[members] = _gradients(model, batch, labels, data.words, vectors)[: len(members)].float()
    return gradients


def _gradients(
    model: LanguageModel, batch: Batch, labels: torch.Tensor, words: Reading | None, vectors: torch.Tensor
) -> torch.Tensor:
    """Return the gradients [B, P, H] of one pass, including those of blank rows."""
    shape = (len(batch), *vectors.shape)
    rows = vectors.detach().expand(shape).clone().requires_grad_(True)  # [B, P, H], one copy a record
    logits, goal = model.logits(batch, rows, words), batch.goal
    losses = label_loss(logits, labels) if goal is None else answer_loss(logits, goal)  # [B]
    # row i occurs in loss i only, so the gradient of the sum is every record's own
    (gradients,) = torch.autograd.grad(losses.sum(), rows)
    if gradients.shape != shape:
        raise PromptferryError(
            f"per-record gradients are {tuple(gradients.shape)}, expected {shape}: refusing to clip"
        )
    return gradients
