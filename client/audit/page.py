"""The results of an audit as one self-contained HTML page, without script, font or picture from elsewhere."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from client.audit.glossary import GLOSSARY, name

Report = Mapping[str, Any]
Scale = Callable[[float], float]
_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 44
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #1f2933 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.pass { color: #1a7f4b; font-weight: 600 } .fail { color: #c22f2f; font-weight: 600 }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1.2rem }
table { border-collapse: collapse; margin: .6rem 0 } td, th { padding: .15rem .9rem .15rem 0; text-align: left }
svg { max-width: 100%; height: auto; display: block } svg text { font: 12px system-ui, sans-serif; fill: #52606d }
.axis { stroke: #9aa5b1; fill: none } .claim { stroke: #c22f2f; stroke-width: 2; stroke-dasharray: 6 4; fill: none }
rect { fill-opacity: .65 } .a { fill: #2f6fb5 } .b { fill: #e0912f }
.line { stroke: #2f6fb5; stroke-width: 2; fill: none }
"""
_PRIVATE = (
    "This page contains only aggregates, but those of a membership audit come from your records and carry no "
    "noise: do not publish it."
)


def html(report: Report) -> str:
    """Return the page of a report that `promptferry-client audit --format json` writes."""
    state = _state(report["passed"])
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>promptferry audit</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Privacy audit: {state}</h1>",
        f"<p>{escape(_about(report))} {escape(report['note'])} {_PRIVATE}</p>",
        "<h2>Claimed and measured</h2>",
        _bars(report["findings"]),
        *(_section(finding) for finding in report["findings"]),
        "<h2>Terms</h2>",
        _terms(),
        "<h2>Versions</h2>",
        _table(report["versions"]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _about(report: Report) -> str:
    """Return the client, the time of the audit, and the campaigns that used the data."""
    campaigns = ", ".join(report["campaigns"]) or "none"
    return f"Client {report['client']}, {report['time']}. Campaigns in its ledger: {campaigns}."


def _terms() -> str:
    terms = (f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in GLOSSARY.items())
    return f"<dl>{''.join(terms)}</dl>"


def _section(finding: Report) -> str:
    curves = finding["curves"]
    plot = ""
    if "edges" in curves:
        plot = _histogram(curves)
    elif "fpr" in curves:
        plot = _roc(curves)
    numbers = {
        "claimed ε": finding["claimed"],
        "δ": finding["delta"],
        "measured ε at least": finding["bound"],
    }
    return "\n".join(
        [
            f"<h2>{escape(finding['audit'].capitalize())} audit: {_state(finding['passed'])}</h2>",
            f"<p>{escape(_sentence(finding['verdict']))}</p>",
            plot,
            _table({**numbers, **finding["measured"], "seconds": finding["seconds"]}),
            f"<details><summary>Settings</summary>{_table(finding['settings'])}</details>",
        ]
    )


def _bars(findings: Sequence[Report]) -> str:
    """Draw one bar per audit: the measured ε, with a mark at the claimed ε."""
    finite = [float(finding[key]) for finding in findings for key in ("claimed", "bound")]
    most = 1.1 * max([value for value in finite if math.isfinite(value)], default=1.0) or 1.0
    row, left = 46, 120
    height = row * len(findings) + _BOTTOM
    across = _linear(0.0, most, left, _WIDTH - _RIGHT)
    parts = []
    for index, finding in enumerate(findings):
        top = index * row + 8
        claimed, bound = (min(float(finding[key]), most) for key in ("claimed", "bound"))
        parts += [
            _text(left - 8, top + 20, finding["audit"], "end"),
            _bar("a" if finding["passed"] else "b", left, top, across(bound) - left, row - 16),
            f'<path class="claim" d="M{across(claimed):.1f} {top - 4}v{row - 8}"/>',
        ]
    base = row * len(findings)
    parts.append(f'<path class="axis" d="M{left} {base}H{_WIDTH - _RIGHT}"/>')
    parts += [_text(across(tick), base + 16, f"{tick:g}", "middle") for tick in _ticks(most)]
    parts.append(
        _text((left + _WIDTH) / 2, base + 36, "ε: measured at least (bar), claimed (dashed)", "middle")
    )
    return _svg(parts, height)


def _histogram(curves: Report) -> str:
    """Draw the distributions of the scores of included and excluded canaries."""
    edges, groups = curves["edges"], {"a": curves["excluded"], "b": curves["included"]}
    most = max(1, *(count for counts in groups.values() for count in counts))
    across, up = (
        _linear(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT),
        _linear(0, most, _HEIGHT - _BOTTOM, _TOP),
    )
    parts = []
    for colour, counts in groups.items():
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                x, y = across(left), up(count)
                parts.append(_bar(colour, x, y, across(right) - x, up(0) - y))
    ticks = [edges[0] + share * (edges[-1] - edges[0]) for share in (0, 0.25, 0.5, 0.75, 1)]
    parts += _axes("score: clipped canaries heard a round", "canaries")
    parts += [_text(across(tick), _HEIGHT - 26, f"{tick:.2g}", "middle") for tick in ticks]
    parts += [_text(_LEFT - 6, up(most) + 4, f"{most}", "end")]
    parts += _legend([("a", "left out"), ("b", "in the data")])
    return _svg(parts, _HEIGHT)


def _roc(curves: Report) -> str:
    """Draw true against false positives on log axes, with the most that (ε, δ) allows."""
    least = 1e-3
    across = _log(least, 1.0, _LEFT, _WIDTH - _RIGHT)
    up = _log(least, 1.0, _HEIGHT - _BOTTOM, _TOP)
    marks = (1e-3, 1e-2, 1e-1, 1.0)
    fpr = curves["fpr"]
    parts = [
        f'<path class="axis" stroke-dasharray="2 4" d="{_path(fpr, fpr, across, up)}"/>',
        f'<path class="line" d="{_path(fpr, curves["tpr"], across, up)}"/>',
        f'<path class="claim" d="{_path(fpr, curves["allowed"], across, up)}"/>',
        *_axes("false positive rate", "true positive rate"),
        *(_text(across(mark), _HEIGHT - 26, f"{mark:g}", "middle") for mark in marks),
        *(_text(_LEFT - 6, up(mark) + 4, f"{mark:g}", "end") for mark in marks),
        _text(
            _WIDTH - _RIGHT - 4,
            _HEIGHT - _BOTTOM - 8,
            "solid: attack; dashed: most allowed; dotted: guessing",
            "end",
        ),
    ]
    return _svg(parts, _HEIGHT)


def _axes(below: str, beside: str) -> list[str]:
    base = _HEIGHT - _BOTTOM
    return [
        f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}"/>',
        _text((_LEFT + _WIDTH) / 2, _HEIGHT - 8, below, "middle"),
        f'<text transform="translate(14 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>',
    ]


def _legend(entries: Iterable[tuple[str, str]]) -> list[str]:
    parts = []
    for index, (colour, label) in enumerate(entries):
        y = _TOP + 18 * index
        parts.append(_bar(colour, _WIDTH - 110, y, 12, 12))
        parts.append(_text(_WIDTH - 92, y + 11, label, "start"))
    return parts


def _path(xs: Sequence[float], ys: Sequence[float], across: Scale, up: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _log(low: float, high: float, start: float, end: float) -> Scale:
    """Scale logarithmically; values below `low` are drawn at `low`."""
    inner = _linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(max(value, low)))


def _ticks(most: float) -> list[float]:
    step = 10 ** math.floor(math.log10(most))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 8)
    return [round(step * index, 10) for index in range(int(most / step) + 1)]


def _bar(colour: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(parts: Iterable[str], height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _table(rows: Mapping[str, Any]) -> str:
    cells = (
        f"<tr><th>{escape(name(key))}</th><td>{escape(_number(value))}</td></tr>"
        for key, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _state(passed: bool) -> str:
    return '<span class="pass">pass</span>' if passed else '<span class="fail">FAIL</span>'
