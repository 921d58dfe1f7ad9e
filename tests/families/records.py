"""What a record's gradient depends on, and how far one record can move a step."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from client.private.noise import GRID_BITS, clip_to_grid
from tests.families.outcomes import DifferentError
from tests.families.subject import TASK, Subject
from transfer.models.language_model import LanguageModel
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.tokens.batches import FORWARD_TOKENS

SHORT = ("The film was great.", "The plot was awful.", "The music was good.")
LONG = (
    "We liked the music, the food and the long walk.",
    "We liked the weather, the noise and the slow train.",
    "A terrible plot, a bad ending and a long boring evening, slow and awful.",
)
"""Records of which several are about as long as one another, and so share a pass."""

PASSES = Passes(64, TASK.max_tokens)
"""Small, for a small step: a few records share one."""

BOUND = 1.000001
"""Most that one record may move the sum of clipped gradients, in clipping norms."""


def rows_apart(subject: Subject) -> None:
    """A record's gradient is the same bit for bit whoever stands beside it and wherever it stands."""
    _rows_apart(subject.ours, subject)


def rows_apart_in_half(subject: Subject) -> None:
    """The same in bfloat16."""
    _rows_apart(replace(subject.ours, model=subject.stock(torch.bfloat16)), subject)


def _rows_apart(ours: LanguageModel, subject: Subject) -> None:
    data, vectors = _data(ours, [*SHORT, *LONG]), subject.prompt.vectors
    every, longest = list(range(len(data.lines))), len(data.lines) - 1
    alone = torch.cat([gradients(ours, data, [index], vectors) for index in every])
    sizes = alone.abs().amax(dim=(1, 2))
    if not alone.isfinite().all() or not sizes.min():
        raise DifferentError("a gradient is not finite or is 0")
    worst = 0.0
    for included in (every, every[::-1], [4, 1, 0, 5, 2, 3], [0, longest], [longest - 1, longest]):
        away = (gradients(ours, data, included, vectors) - alone[included]).abs().amax(dim=(1, 2))
        worst = max(worst, float((away / sizes[included]).max()))
    if worst:
        raise DifferentError(f"by {worst:.2g}")


def sensitivity(subject: Subject) -> str:
    """One record more moves the sum of clipped gradients by no more than the clipping norm."""
    ours, vectors = subject.ours, subject.prompt.vectors
    words = LONG[-1].split()
    more = [" ".join(words[:count]) for count in (2, 4, 5, len(words))]
    data = _data(ours, [*SHORT, *SHORT, LONG[0], *more])
    few = list(range(len(data.lines) - len(more)))
    norms = gradients(ours, data, range(len(data.lines)), vectors).flatten(1).norm(dim=1)
    clip = float(norms.min()) / 2  # every record is clipped
    grid = clip / 2**GRID_BITS

    def total(included: list[int]) -> torch.Tensor:
        groups = data.batches(included, len(vectors), FORWARD_TOKENS)
        return sum(clip_to_grid(per_record_gradients(ours, data, g, vectors), clip, grid) for g in groups)  # type: ignore[return-value]

    without = total(few)
    moved = max(
        float((total([*few, one]) - without).double().norm()) * grid / clip
        for one in range(len(few), len(data.lines))
    )
    if not moved <= BOUND:
        raise DifferentError(f"{moved:.7g} C")
    return f"{moved:.6f} C"


def _data(ours: LanguageModel, texts: Sequence[str]) -> LabelledLines:
    encoder = ours.encoder(TASK)
    labels = torch.tensor([index % 2 for index in range(len(texts))])
    return LabelledLines(encoder.encode(texts), labels, encoder.words, PASSES)


def gradients(
    ours: LanguageModel, data: LabelledLines, included: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Gradients [N, P, H] of the records `included`, in this order, as a step of tuning computes them."""
    rows: dict[int, torch.Tensor] = {}
    for group in data.batches(list(included), len(vectors), FORWARD_TOKENS):
        rows |= dict(zip(group, per_record_gradients(ours, data, group, vectors), strict=True))
    return torch.stack([rows[index] for index in included])
