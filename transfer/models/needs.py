"""What a purpose needs, part by part, before anything is loaded."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from transfer.families.skeleton import Skeleton, skeleton, stored_in
from transfer.placement.devices import dtype_of, name_of
from transfer.placement.quantised import stored_as
from transfer.placement.settings import Placement, Quantisation

Purpose = Literal["distillation", "transfer", "client's round", "to each client"]


@dataclass(frozen=True, slots=True)
class Need:
    """One part of what a purpose needs; `size` is in bytes, None if it cannot be told without weights.

    `counted` is False for an alternative and for what is on disk: neither is in the sum of its purpose.
    """

    purpose: Purpose
    part: str
    size: int | None
    detail: str
    counted: bool = True


def totals(needs: Iterable[Need]) -> dict[Purpose, int | None]:
    """Return the sum of what counts of each purpose; None if a part of it is not told."""
    sums: dict[Purpose, int | None] = {}
    for need in needs:
        if need.counted:
            before = sums.get(need.purpose, 0)
            sums[need.purpose] = None if before is None or need.size is None else before + need.size
    return sums


def of_weights(purpose: Purpose, config: PretrainedConfig, placement: Placement) -> Need:
    """Return the need of a target's weights where its placement puts them."""
    stored = stored_as(config)  # what is quantised already keeps its numbers, and its other weights' dtype
    bones = skeleton(config, dtype_of(placement, stored_in(config)) if stored is None else stored_in(config))
    quantise: Quantisation = placement.quantise if stored is None else "int8" if stored == "int8" else "nf4"
    estimate = "" if quantise == "none" else f", {stored or quantise} by estimate"
    return Need(purpose, "target's weights", bones.weights(quantise), f"{described(bones)}{estimate}")


def described(bones: Skeleton) -> str:
    """Return number and type of a model's weights as text."""
    return f"{bones.parameters:,} weights, {name_of(bones.model.dtype)}"
