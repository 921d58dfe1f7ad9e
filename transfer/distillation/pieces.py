"""Batches of a distillation in pieces that fit into memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from transfer.distillation.exercises import Exercise
from transfer.models.forward_size import attempted
from transfer.models.language_model import LanguageModel

T = TypeVar("T")
PASS_TOKENS = 1024
"""Tokens of one pass on a CPU, whose caches hold them. A step does not depend on it, except in its rounding."""


def in_pieces(
    proxy: LanguageModel,
    parts: Sequence[Exercise],
    run: Callable[[Sequence[Exercise]], T],
    most: int | None = None,
) -> T:
    """Return `run(parts)`, each part in pieces of at most `most` tokens; where memory runs out, of half as many.

    The smaller size stays that of `proxy`. Without an LM head a part has no pieces: its texts are compared with one
    another.

    Raises:
        ModelError: a single sequence, or a part without an LM head, does not fit into memory.
    """
    size, split = proxy.size, proxy.lm_head != "none"
    while True:
        tokens = min(most or size.tokens, size.tokens) if size.fallen else most
        pieces = parts
        if split and tokens:
            pieces = [piece for part in parts for piece in part.pieces(tokens)]
        if (result := attempted(partial(run, pieces))) is not None:
            return result
        if not split:
            size.halve(1, "lower batch_tokens")
        size.halve(max(len(piece.ids) for piece in pieces), "lower sequence_tokens")
