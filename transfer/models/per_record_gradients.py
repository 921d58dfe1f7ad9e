"""Each record's own gradient with respect to the prompt in front of it.

The prompt is expanded to a leaf [B, P, H], one copy per record. The gradient of the summed per-record losses with
respect to that leaf is exactly each record's own gradient. There are no hooks, so nothing can silently average over
the batch, as PEFT's prompt tuning under Opacus does. The shape is checked every time.

Letters: B records of a pass, P prompt tokens (and the rows of a head, if the task is read by one), H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from transfer.errors import PromptferryError
from transfer.models.language_model import LanguageModel
from transfer.models.objectives import answer_loss, label_loss, labels_loss
from transfer.models.passes import Passes, Shape, filled
from transfer.tokens.batches import FORWARD_TOKENS, Batch, Line
from transfer.tokens.readout import Head, Reading, copies


@dataclass(frozen=True, slots=True, eq=False)
class LabelledLines:
    """Encoded records with what their losses need.

    Attributes:
        lines: the encoded records. Without `words` their goals are the answers, in free text.
        labels: what is true of each record, as `transfer.tokens.readout.goals` has it; not read for free text.
        words: how classes are read; None for free text.
        passes: the shapes in which the records go through a model.
    """

    lines: Sequence[Line]
    labels: torch.Tensor
    words: Reading | None
    passes: Passes = Passes()  # noqa: RUF009 -- frozen

    def batches(
        self, included: Sequence[int], prompt_length: int, forward_tokens: int | None = None
    ) -> Iterator[list[int]]:
        """Yield the included records in groups for `per_record_gradients`.

        A group has at most `forward_tokens` tokens, or one record; by default it fills at least one pass. A record's
        gradient does not depend on its group.
        """
        rows, tokens = copies(self.words), forward_tokens or max(FORWARD_TOKENS, self.passes.tokens)
        for shape, group in self.passes.groups(self.lines, included, prompt_length, rows):
            most = max(1, tokens // ((shape.tokens + prompt_length) * rows))
            yield from (group[start : start + most] for start in range(0, len(group), most))


def per_record_gradients(
    model: LanguageModel, data: LabelledLines, group: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Return the gradient [B, P, H], float32, of each record's own loss with respect to prompt `vectors` [P, H].

    Guarantee:
        A record's gradient is a function of that record, `vectors`, the model and `data.passes` alone. It is the
        same bit for bit whatever other records are in `group`, and in whatever order. This holds on one machine with
        one number of threads, for a model whose `traits` are true for all inputs. Where a pass does not fit into
        memory, its shape alone decides with how many rows it is run again; passes of this shape that did fit before,
        because something else took the memory since, are not repeated.

    Edge cases:
        An empty `group` gives zeros [0, P, H]. Gradients are neither clipped nor checked to be finite: a NaN or
        infinite one is returned as it is.

    Raises:
        PromptferryError: the gradient is not one [P, H] per record, so clipping would bound something else.
        ModelError: prompt and line together need more positions than the model has, or one record more memory than
            there is.
    """
    lines = [data.lines[index] for index in group]
    gradients = torch.zeros(len(lines), *vectors.shape)  # [B, P, H], in the order of `group`
    length, rows = len(vectors), copies(data.words)
    for shape, places in data.passes.groups(lines, range(len(lines)), length, rows, model.manners(length)):
        run = partial(_in_rows, model, data, [group[place] for place in places], vectors, shape)
        gradients[places] = model.size.of_rows((shape, length, rows), shape.records, run)
    return gradients


def _in_rows(
    model: LanguageModel,
    data: LabelledLines,
    members: Sequence[int],
    vectors: torch.Tensor,
    shape: Shape,
    rows: int,
) -> torch.Tensor:
    """Return the gradients [B, P, H] of records of one shape, in passes of `rows` rows."""
    shape, starts = shape._replace(records=rows), range(0, len(members), rows)
    parts = [members[start : start + rows] for start in starts]
    return torch.cat([_of_pass(model, data, part, vectors, shape) for part in parts])


def _of_pass(
    model: LanguageModel, data: LabelledLines, members: Sequence[int], vectors: torch.Tensor, shape: Shape
) -> torch.Tensor:
    """Return the gradients [B, P, H] of the records of one pass."""
    batch = filled([data.lines[index] for index in members], shape, model.pad_id)
    labels = data.labels.new_zeros(shape.records, *data.labels.shape[1:])  # any label serves a blank row
    if batch.goal is None:
        labels[: len(members)] = data.labels[torch.as_tensor(members)]
    # blank rows stand behind the records: cut theirs off
    return _gradients(model, batch, labels, data.words, vectors)[: len(members)].float()


def _gradients(
    model: LanguageModel, batch: Batch, labels: torch.Tensor, words: Reading | None, vectors: torch.Tensor
) -> torch.Tensor:
    """Return the gradients [B, P, H] of one pass, including those of blank rows."""
    shape = (len(batch), *vectors.shape)
    rows = vectors.detach().expand(shape).clone().requires_grad_(True)  # [B, P, H], one copy a record
    logits = model.logits(batch, rows, words)
    losses = record_losses(logits, batch.goal, labels, words)  # [B]
    # row i occurs in loss i only, so the gradient of the sum is every record's own
    (gradients,) = torch.autograd.grad(losses.sum(), rows)
    if gradients.shape != shape:
        raise PromptferryError(
            f"per-record gradients are {tuple(gradients.shape)}, expected {shape}: refusing to clip"
        )
    return gradients


def record_losses(
    logits: torch.Tensor, goal: torch.Tensor | None, labels: torch.Tensor, words: Reading | None
) -> torch.Tensor:
    """Return each record's own loss [B]: of its answer `goal` [B, K] in free text, or else of its `labels`."""
    if goal is not None:
        return answer_loss(logits, goal)
    if isinstance(words, Head) and words.weights is not None:
        return labels_loss(logits, labels, words.weights)
    return label_loss(logits, labels)
