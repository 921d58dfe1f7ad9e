"""What tests of this room share."""

from transfer.models.public_directions import public_subspace

TEXTS = [f"The {noun} was {word} and {more}." for noun in ("film", "plot", "evening", "match")
         for word in ("great", "awful", "boring") for more in ("slow", "good", "young")]  # fmt: skip


def found(model, task, start, dimensions=4, seed=0):
    return public_subspace(model, task, TEXTS, start, dimensions, seed)
