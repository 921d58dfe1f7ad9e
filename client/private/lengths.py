"""How long records are in a model's tokens, and what a task's limits cut of them. It never leaves the machine."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from transfer.tokens.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of a data owner's records, as one task and one tokeniser make them lines.

    Attributes:
        max_tokens: the task's limit on a line, template and all.
        longest: tokens of the longest line, uncut.
        median: tokens of a line in the middle, uncut.
        cut_records: how many lose the end of their text.
        cut_tokens: how many tokens they lose together.
        cut_answers: how many answers in free text are longer than `answer_tokens`.
    """

    max_tokens: int
    longest: int
    median: float
    cut_records: int
    cut_tokens: int
    cut_answers: int

    @classmethod
    def of(cls, encoder: Encoder, texts: Sequence[str], answers: Sequence[str]) -> "Lengths":
        """Measure at least one text, and the answers if the task has such."""
        whole = [encoder.length(text) for text in texts]
        kept = [len(line.ids) for line in encoder.encode(texts)]
        cut = [max(0, length - left) for length, left in zip(whole, kept, strict=True)]
        return cls(
            max_tokens=encoder.task.max_tokens,
            longest=max(whole),
            median=statistics.median(whole),
            cut_records=sum(map(bool, cut)),
            cut_tokens=sum(cut),
            cut_answers=sum(encoder.answer_length(each) > encoder.task.answer_tokens for each in answers),
        )
