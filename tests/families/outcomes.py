"""How a trial of one property ends, in one line."""

from collections.abc import Callable

import torch

from transfer.errors import PromptferryError

CLOSE = 1e-4
"""Largest difference of two float32 computations of the same, as a part of the largest value."""


class DifferentError(Exception):
    """Something came out otherwise than it has to."""


def outcome(test: Callable[[], str | None]) -> str:
    """How a test ended, in one line."""
    try:
        return " ".join(filter(None, ("ok", test())))
    except PromptferryError as error:
        return f"refused: {first_line(error)}"
    except DifferentError as error:
        return f"DIFFERENT {error}"
    except Exception as error:  # noqa: BLE001  # whatever it is, the table shows it and the test fails
        return f"CRASH {type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def same(ours: torch.Tensor, theirs: torch.Tensor, what: str = "", bound: float = CLOSE) -> None:
    """Raise if two tensors differ by more than `bound` of the largest value."""
    if ours.shape != theirs.shape:
        raise DifferentError(f"{what}shapes {list(ours.shape)} and {list(theirs.shape)}")
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        raise DifferentError(f"{what}not finite")
    off = float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp_min(1e-30))
    if off > bound:
        raise DifferentError(f"{what}by {off:.2g}")
