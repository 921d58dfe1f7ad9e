"""Accuracy against ε as an SVG: a panel for each model, task and federation, a line for each method."""

from collections.abc import Sequence
from html import escape

from tests.benchmarks.quality_report import TITLES, Row, short

WIDTH, HEIGHT, ACROSS = 300, 220, 3
LEFT, TOP, RIGHT, BOTTOM = 38, 34, 12, 30
COLOURS = {
    "bare": "#8c959f",
    "ceiling": "#24292f",
    "same-model": "#1b7c83",
    "proxy": "#0969da",
    "direct": "#57606a",
    "undistilled": "#bc4c00",
    "arithmetic": "#8250df",
    "l1": "#bf8700",
    "l2": "#1a7f37",
    "post": "#d1242f",
}


def svg(found: Sequence[Row]) -> str:
    """The panels, three in a line, and one legend."""
    panels: dict[str, list[Row]] = {}
    for row in found:
        named = (short(value) for name, value in row.names.items() if name != "epsilon" and value is not None)
        panels.setdefault(" · ".join(named), []).append(row)
    body, bottom = "", -(-len(panels) // ACROSS) * HEIGHT
    for index, (title, rows) in enumerate(panels.items()):
        x, y = index % ACROSS * WIDTH, index // ACROSS * HEIGHT
        body += f'<g transform="translate({x},{y})">{_panel(title, rows)}</g>\n'
    for index, (method, colour) in enumerate(COLOURS.items()):
        x, y = LEFT + index % 5 * 172, bottom + 16 + index // 5 * 18
        body += f'<rect x="{x}" y="{y - 8}" width="14" height="3" fill="{colour}"/>'
        body += f'<text x="{x + 20}" y="{y - 3}">{TITLES[method].strip("*")}</text>\n'
    size = f'width="{ACROSS * WIDTH}" height="{bottom + 50}"'
    style = "<style>text{font:11px sans-serif}path{fill:none;stroke-width:2}</style>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'  # readers may have a dark page
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{paper}\n{body}</svg>\n'


def _panel(title: str, rows: Sequence[Row]) -> str:
    """One panel; every ε takes the same room, ∞ included."""
    means = {method: [row.mean(method) for row in rows] for method in COLOURS}
    every = [100 * mean for line in means.values() for mean in line if mean is not None] or [0.0]
    low, high = 5 * (min(every) // 5), 5 * (max(every) // 5 + 1)

    def x(index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(rows)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    drawn = f'<text x="{LEFT}" y="{TOP - 14}">{escape(title)}</text>'
    for value in (low, (low + high) / 2, high):
        drawn += f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        drawn += f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    for index, row in enumerate(rows):
        label = f"ε {short(row.names['epsilon'])}"
        drawn += f'<text x="{x(index):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{label}</text>'
    for method, line in means.items():
        points = [f"{x(i):.1f} {y(100 * mean):.1f}" for i, mean in enumerate(line) if mean is not None]
        dash = ' stroke-dasharray="4 3"' if method in ("bare", "ceiling") else ""  # they know no ε
        if points:  # a line of one point is drawn as a dot
            path = f"M{'L'.join(points)}" if len(points) > 1 else f"M{points[0]}h1"
            drawn += f'<path d="{path}" stroke="{COLOURS[method]}"{dash}/>'
    return drawn
