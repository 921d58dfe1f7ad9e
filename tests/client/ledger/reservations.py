"""What tests of this room share."""

import math
from pathlib import Path

from client.ledger.ledger import Ledger
from transfer.privacy import Budget, Spend, epsilon

UNIT = Spend(0.05, 1.0, 1)


DELTA = 1e-6
UNLIMITED = Budget(math.inf, DELTA)


def units(count: int) -> Budget:
    """A budget for exactly `count` units."""
    return Budget(epsilon([UNIT] * count, DELTA) * (1 + 1e-9), DELTA)


def register(ledger: Ledger, *texts: str) -> str:
    return ledger.data_set([ledger.fingerprint(text) for text in texts])


def contents(path: Path) -> dict[str, bytes]:
    """Every byte the ledger keeps; SQLite's shared-memory index is only a cache."""
    return {p.name: p.read_bytes() for p in path.parent.iterdir() if not p.name.endswith("-shm")}
