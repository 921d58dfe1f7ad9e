"""The choice of a library prompt and its reasons, as a table for people and as JSON values."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from transfer.panda.library import Choice

SCORES = {"A": "effect", "B": "alignment", "C": "leep", "D": "gradient", "PANDA": "paper"}
LEGEND = "A cosine of effects, B CKA, C LEEP, D cosine with the first step; probe: held-out loss"


def explain(choice: Choice, console: Console) -> None:
    """Print the scores and the probe of every eligible candidate, the obstacle of the others, and the verdict."""
    table = Table(Column("library prompt", overflow="fold"), *SCORES, "probe", caption=LEGEND)
    for item in choice.candidates:
        if item.obstacle:
            console.print(f"{item.name} is not eligible: it {item.obstacle}", soft_wrap=True)
            continue
        scores = (getattr(item.scores, name) if item.scores else None for name in SCORES.values())
        cells = ("–" if score is None else f"{score:.2f}" for score in scores)
        table.add_row(item.name, *cells, " → ".join(f"{loss:.3g}" for loss in item.probe) or "–")
    if choice.finalist:
        console.print(table)
    console.print(choice.verdict, soft_wrap=True)


def values(choice: Choice) -> dict[str, Any]:
    """Return the choice as JSON values."""
    parts = ("candidates", "finalist", "start", "comparison", "chosen", "verdict")
    return {part: getattr(choice, part) for part in parts}
