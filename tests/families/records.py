"""What a record's gradient depends on, and how far one record can move a step."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch

from client.noise import GRID_BITS, clip_to_grid
from tests.families.outcomes import DifferentError
from tests.families.subject import TASK, TEXTS, Subject
from transfer.batches import FORWARD_TOKENS, Line
from transfer.gradients import LabelledLines, per_record_gradients
from transfer.models import LanguageModel
from transfer.passes import Passes

PASSES = Passes.expecting(len(TEXTS), TASK.max_tokens)
"""As a step of so many records has them."""

BOUND = 1.000001
"""Most that one record may move the sum of clipped gradients, in clipping norms."""


def rows_apart(subject: Subject) -> None:
    """A record's gradient is the same bit for bit whoever stands beside it and wherever it stands."""
    _rows_apart(subject.ours, subject)


def rows_apart_in_half(subject: Subject) -> None:
    """The same in bfloat16."""
    _rows_apart(replace(subject.ours, model=deepcopy(subject.ours.model).to(torch.bfloat16)), subject)


def _rows_apart(ours: LanguageModel, subject: Subject) -> None:
    data, vectors = _data(subject.lines, subject.ours), subject.prompt.vectors
    every = list(range(len(subject.lines)))
    longest = max(every, key=lambda index: len(subject.lines[index].ids))
    alone = torch.cat([gradients(ours, data, [index], vectors) for index in every])
    if not alone.isfinite().all() or not alone.abs().amax(dim=(1, 2)).min():
        raise DifferentError("a gradient is not finite or is 0")
    worst = 0.0
    for included in (
        every,
        every[::-1],
        [2, 0, 4, 1, 3],
        *([index, longest] for index in every if index != longest),
    ):
        rows = gradients(ours, data, included, vectors)
        away = (rows.float() - alone[included].float()).abs().amax(dim=(1, 2))
        worst = max(worst, float((away / alone[included].float().abs().amax(dim=(1, 2))).max()))
    if worst:
        raise DifferentError(f"by {worst:.2g}")


def sensitivity(subject: Subject) -> str:
    """One record more moves the sum of clipped gradients by no more than the clipping norm."""
    ours, vectors = subject.ours, subject.prompt.vectors
    start = [text for text in TEXTS if len(text.split()) < 8] * 2
    words = TEXTS[1].split()
    texts = start + [" ".join(words[:count]) for count in (1, 3, 4, 5, 6, 8, len(words))]
    data = _data(ours.encoder(TASK).encode(texts), ours)
    few = list(range(len(start)))
    norms = gradients(ours, data, list(range(len(texts))), vectors).flatten(1).norm(dim=1)
    clip = float(norms.min()) / 2  # every record is clipped
    grid = clip / 2**GRID_BITS

    def total(included: list[int]) -> torch.Tensor:
        groups = data.batches(included, len(vectors), FORWARD_TOKENS)
        return sum(clip_to_grid(per_record_gradients(ours, data, g, vectors), clip, grid) for g in groups)  # type: ignore[return-value]

    without = total(few)
    moved = max(
        float((total([*few, one]) - without).double().norm()) * grid / clip
        for one in range(len(few), len(texts))
    )
    if not moved <= BOUND:
        raise DifferentError(f"{moved:.7g} C")
    return f"{moved:.6f} C"


def _data(lines: Sequence[Line], ours: LanguageModel) -> LabelledLines:
    labels = torch.tensor([i % 2 for i in range(len(lines))])
    return LabelledLines(lines, labels, ours.encoder(TASK).words, PASSES)


def gradients(
    ours: LanguageModel, data: LabelledLines, included: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Gradients [N, P, H] of the records `included`, in this order, as a step of tuning computes them."""
    rows: dict[int, torch.Tensor] = {}
    for group in data.batches(list(included), len(vectors), FORWARD_TOKENS):
        rows |= dict(zip(group, per_record_gradients(ours, data, group, vectors), strict=True))
    return torch.stack([rows[index] for index in included])
