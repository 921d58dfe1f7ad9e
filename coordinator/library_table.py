"""The table that explains why a library prompt was used, or none."""

from typing import Any

from rich.console import Group
from rich.table import Table

from coordinator.session import line
from transfer.library import NULL, Candidate, Choice

SCORES = {
    "effect": "A effect",
    "alignment": "B CKA",
    "leep": "C LEEP",
    "gradient": "D gradient",
    "paper": "PANDA",
}


def explained(choice: Choice) -> Group:
    """Every candidate with its scores, its probe and what became of it, and the verdict below."""
    table = Table("library prompt", *SCORES.values(), "probe", "")
    for item in choice.candidates:
        scores = (getattr(item.scores, name) if item.scores else None for name in SCORES)
        cells = ("–" if score is None else f"{score:.2f}" for score in scores)
        probe = " → ".join(f"{loss:.4g}" for loss in item.probe) or "–"
        table.add_row(item.name, *cells, probe, _fate(item, choice))
    return Group(table, line(choice.verdict))


def verdict(choice: Choice) -> dict[str, Any]:
    """The same for machines."""
    parts = ("candidates", "finalist", "start", "comparison", "chosen", "verdict")
    return {part: getattr(choice, part) for part in parts}


def _fate(item: Candidate, choice: Choice) -> str:
    if item.obstacle:
        return f"not eligible: {item.obstacle}"
    if item.name == NULL:
        return "" if choice.chosen else "used: the plain transfer"
    if item.name == choice.finalist:
        return "used" if choice.chosen else "finalist, not better"
    return "left in the probe" if item.probe else "not short-listed"
