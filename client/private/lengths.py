"""The lengths of records in a model's tokens, and how much a task's limits cut. They never leave the machine."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from transfer.tokens.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of a data owner's records as lines of one task and one tokeniser.

    Attributes:
        max_tokens: the task's limit on a line, template included.
        longest: tokens of the longest line before cutting.
        median: median tokens of a line before cutting.
        cut_records: number of records that lose the end of their text.
        cut_tokens: number of tokens lost in all records together.
        cut_answers: number of free-text answers longer than `answer_tokens`.
    """

    max_tokens: int
    longest: int
    median: float
    cut_records: int
    cut_tokens: int
    cut_answers: int

    @classmethod
    def of(cls, encoder: Encoder, texts: Sequence[str], answers: Sequence[str]) -> "Lengths":
        """Measure one or more texts, and the answers if the task has free-text answers."""
        whole = [encoder.length(text) for text in texts]
        limited = [len(line.ids) for line in encoder.encode(texts)]
        cut = [max(0, length - left) for length, left in zip(whole, limited, strict=True)]
        return cls(
            max_tokens=encoder.task.max_tokens,
            longest=max(whole),
            median=statistics.median(whole),
            cut_records=sum(map(bool, cut)),
            cut_tokens=sum(cut),
            cut_answers=sum(encoder.answer_length(each) > encoder.task.answer_tokens for each in answers),
        )
