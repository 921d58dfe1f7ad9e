"""The table of what a purpose needs, part by part; see `transfer.models.needs`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from transfer.models.needs import Need, totals
from transfer.terminal.console import line
from transfer.terminal.json_values import plain

UNTOLD = "not measured"
SECONDS = f"seconds: {UNTOLD}; they need the weights"


def values(needs: Sequence[Need]) -> dict[str, Any]:
    """Return needs and their sums as JSON has them; seconds are null, because nothing ran."""
    return {"needs": plain(list(needs)), "total": dict(totals(needs)), "seconds": None}


def table(sizes: Mapping[str, Any]) -> Group:
    """Return `values` as one table and what is not in it."""
    shown = Table("for", "part", "bytes", "found")
    last = ""
    for need in sizes["needs"]:
        if need["purpose"] != last:
            last = need["purpose"]
            shown.add_section()
            shown.add_row(f"[bold]{last}", "[bold]sum", f"[bold]{size(sizes['total'][last])}", "")
        part = need["part"] if need["counted"] else f"({need['part']})"
        shown.add_row("", escape(part), size(need["size"]), escape(need["detail"]))
    return Group(shown, line("parts in brackets are alternatives, not in the sum"), line(SECONDS))


def size(count: int | None) -> str:
    """Return bytes for people, in powers of ten as memory is sold on disks and GPUs' data sheets count it."""
    if count is None:
        return UNTOLD
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
