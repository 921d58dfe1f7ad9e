"""Accuracy against ε as an SVG: a panel for each model, task and condition, a line for each method."""

from collections.abc import Sequence
from html import escape
from textwrap import wrap

from tests.benchmarks.quality_cells import CENTRAL, FREE, METHODS, ZERO_SHOT
from tests.benchmarks.quality_report import TITLES, Row, short

WIDTH, HEIGHT, ACROSS = 300, 186, 3
LEFT, RIGHT, BOTTOM = 38, 12, 30
LINE = 14
ACROSS_TITLE = 48
"""Letters of a line above a panel."""
COLOURS = {
    "bare": "#8c959f",
    "text": "#b6a17c",
    "public-prior": "#d4a72c",
    "public-start": "#6fdd8b",
    "proxy-bare": "#80ccff",
    "ceiling": "#24292f",
    "same-model": "#1b7c83",
    "proxy": "#0969da",
    "direct": "#57606a",
    "undistilled": "#bc4c00",
    "arithmetic": "#8250df",
    "l1": "#bf8700",
    "l2": "#1a7f37",
    "post": "#d1242f",
    "library": "#e85aad",
    "shuffled": "#7d4e00",
    "paper": "#4d2d8f",
}
assert set(COLOURS) == set(METHODS)
WITHOUT_EPSILON = (*ZERO_SHOT, *FREE, *CENTRAL)


def svg(found: Sequence[Row]) -> str:
    """The panels, three in a line, and one legend."""
    panels = _panels(found)
    names = [name for row in found[:1] for name in row.names if name not in ("target", "task", "epsilon")]
    differing = [name for name in names if len({repr(rows[0].names[name]) for rows in panels}) > 1]
    titles = [_title(rows[0], differing) for rows in panels]
    top = LINE * max(map(len, titles), default=0) + 12
    body, bottom = "", -(-len(panels) // ACROSS) * (top + HEIGHT)
    for index, (title, rows) in enumerate(zip(titles, panels, strict=True)):
        x, y = index % ACROSS * WIDTH, index // ACROSS * (top + HEIGHT)
        body += f'<g transform="translate({x},{y})">{_panel(title, rows, top)}</g>\n'
    drawn = [method for method in COLOURS if any(method in row.reached for rows in panels for row in rows)]
    for index, method in enumerate(drawn):
        x, y = LEFT + index % 5 * 172, bottom + 16 + index // 5 * 18
        body += f'<rect x="{x}" y="{y - 8}" width="14" height="3" fill="{COLOURS[method]}"/>'
        body += f'<text x="{x + 20}" y="{y - 3}">{TITLES[method].strip("*")}</text>\n'
    size = f'width="{ACROSS * WIDTH}" height="{bottom + 14 + -(-len(drawn) // 5) * 18}"'
    style = "<style>text{font:11px sans-serif}path{fill:none;stroke-width:2}</style>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'  # readers may have a dark page
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{paper}\n{body}</svg>\n'


def _panels(found: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ in ε alone, ε = ∞ last whatever its rounds; those of one ε only if there are no others."""
    panels: dict[str, list[Row]] = {}
    for row in found:
        panels.setdefault(repr({**row.names, "epsilon": None}), []).append(row)
    without_noise = [row for row in found if row.names["epsilon"] == "inf"]
    for rows in panels.values():
        if rows[-1] not in without_noise:
            rows += [row for row in without_noise if _agree(row, rows[0])][:1]
    several = [rows for rows in panels.values() if len(rows) > 1]
    return several or list(panels.values())


def _agree(row: Row, other: Row) -> bool:
    pairs = (
        (value, other.names[name]) for name, value in row.names.items() if name not in ("epsilon", "rounds")
    )
    return all(value == same or None in (value, same) for value, same in pairs)


def _title(row: Row, differing: Sequence[str]) -> list[str]:
    """Model and task, and below them the other settings in which panels differ."""
    others = ((name.replace("_", " "), row.names[name]) for name in differing)
    told = ", ".join(f"{name} {short(value)}" for name, value in others if value is not None)
    return [f"{short(row.names['target'])} · {short(row.names['task'])}", *wrap(told, ACROSS_TITLE)]


def _panel(title: Sequence[str], rows: Sequence[Row], top: int) -> str:
    """One panel; every ε takes the same room, ∞ included."""
    means = {method: [row.mean(method) for row in rows] for method in COLOURS}
    every = [100 * mean for line in means.values() for mean in line if mean is not None] or [0.0]
    low, high = 5 * (min(every) // 5), 5 * (max(every) // 5 + 1)

    def x(index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(rows)

    def y(value: float) -> float:
        return top + (HEIGHT - BOTTOM) * (high - value) / (high - low)

    drawn = "".join(
        f'<text x="{LEFT}" y="{16 + LINE * index}">{escape(line)}</text>' for index, line in enumerate(title)
    )
    for value in (low, (low + high) / 2, high):
        drawn += f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        drawn += f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
    for index, row in enumerate(rows):
        label = f"ε {short(row.names['epsilon'])}"
        drawn += f'<text x="{x(index):.1f}" y="{top + HEIGHT - 12}" text-anchor="middle">{label}</text>'
    for method, line in means.items():
        points = [(f"{x(i):.1f}", f"{y(100 * mean):.1f}") for i, mean in enumerate(line) if mean is not None]
        dash = ' stroke-dasharray="4 3"' if method in WITHOUT_EPSILON else ""
        if points:
            path = "L".join(map(" ".join, points))
            drawn += f'<path d="M{path}" stroke="{COLOURS[method]}"{dash}/>'
            drawn += "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{COLOURS[method]}"/>' for x, y in points)
    return drawn
