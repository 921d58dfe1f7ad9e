"""Values become what JSON knows, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

from tests.transfer.terminal.terminals import Row
from transfer.terminal import console


def test_plain_values_are_what_json_knows() -> None:
    value = {
        "path": Path("/a"),
        "at": datetime(2030, 1, 2, tzinfo=UTC),
        "digest": b"\x01\xff",
        "epsilon": float("inf"),
        "kinds": {console.Format.TEXT},
        "rows": (Row("a", 1.0),),
        "none": None,
    }
    assert console.plain(value) == {
        "path": "/a",
        "at": "2030-01-02T00:00:00+00:00",
        "digest": "01ff",
        "epsilon": "inf",
        "kinds": ["text"],
        "rows": [{"name": "a", "epsilon": 1.0}],
        "none": None,
    }
