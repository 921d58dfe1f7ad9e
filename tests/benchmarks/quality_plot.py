"""Accuracy against ε as an SVG: a panel for each model, task and federation, a line for each method."""

from collections.abc import Sequence
from html import escape
from typing import Any

from tests.benchmarks.quality_report import TITLES, Row

WIDTH, HEIGHT, ACROSS = 300, 220, 3
LEFT, TOP, RIGHT, BOTTOM = 38, 34, 12, 30
COLOURS = {
    "post": "#d1242f",
    "proxy": "#0969da",
    "arithmetic": "#8250df",
    "l1": "#bf8700",
    "l2": "#1a7f37",
    "direct": "#6e7781",
    "undistilled": "#bc4c00",
    "same-model": "#1b7c83",
    "ceiling": "#24292f",
    "bare": "#8c959f",
}
CONSTANT = {"bare", "ceiling"}
"""Do not depend on ε: drawn dashed."""


def _short(value: Any) -> str:
    return "" if value is None else str(value).partition(" ")[0]


def svg(found: Sequence[Row]) -> str:
    """The panels, three in a line, and one legend."""
    panels: dict[tuple[str, ...], list[Row]] = {}
    for row in found:
        title = tuple(_short(value) for name, value in row.names.items() if name != "epsilon")
        panels.setdefault(title, []).append(row)
    body = ""
    for index, (title, rows) in enumerate(panels.items()):
        down, across = divmod(index, ACROSS)
        shift = f"translate({across * WIDTH},{down * HEIGHT})"
        body += f'<g transform="{shift}">{_panel(" · ".join(filter(None, title)), rows)}</g>\n'
    bottom = -(-len(panels) // ACROSS) * HEIGHT
    used = [method for method in COLOURS if any(method in row.reached for row in found)]
    for index, method in enumerate(used):
        x, y = LEFT + index % 5 * 180, bottom + 16 + index // 5 * 18
        body += f'<rect x="{x}" y="{y - 8}" width="14" height="3" fill="{COLOURS[method]}"/>'
        body += f'<text x="{x + 20}" y="{y - 3}">{TITLES[method].strip("*")}</text>\n'
    size = f'width="{ACROSS * WIDTH}" height="{bottom + 50}"'
    style = "<style>text{font:11px sans-serif;fill:#24292f}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}\n{body}</svg>\n'


def _panel(title: str, rows: Sequence[Row]) -> str:
    """One panel; every ε takes the same room, ∞ included."""
    every = [100 * value for row in rows for method in COLOURS for value in row.reached.get(method, ())]
    low, high = 5 * (min(every) // 5), 5 * (max(every) // 5 + 1)
    step = (WIDTH - LEFT - RIGHT) / len(rows)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    drawn = f'<text x="{LEFT}" y="{TOP - 14}" font-weight="bold">{escape(title)}</text>'
    for value in (low, (low + high) / 2, high):
        drawn += f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        drawn += f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    places = [LEFT + step * (index + 0.5) for index in range(len(rows))]
    for x, row in zip(places, rows, strict=True):
        label = str(row.names["epsilon"]).replace("inf", "∞")
        drawn += f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">ε {label}</text>'
    for method, colour in COLOURS.items():
        points = [
            (x, y(100 * mean)) for x, row in zip(places, rows, strict=True) if (mean := row.mean(method))
        ]
        dash = ' stroke-dasharray="4 3"' if method in CONSTANT else ""
        path = "L".join(f"{x:.1f} {height:.1f}" for x, height in points)
        drawn += f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>' if points else ""
        drawn += "".join(f'<circle cx="{x:.1f}" cy="{h:.1f}" r="3" fill="{colour}"/>' for x, h in points)
    return drawn
