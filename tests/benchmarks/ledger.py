"""Milliseconds to reserve a round and to keep its reply, durably, in an empty and in an old ledger.

python tests/benchmarks/ledger.py [DIRECTORY]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from transfer.privacy import Budget, Spend

NO_LIMIT = Budget(float("inf"), 1e-6)
FREE = Spend(0, 1.0, 1)
"""Without noise ε is infinite and costs no accounting: what is timed is the ledger alone."""
ROUNDS = 500
REPLY = bytes(61_520)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        path = Path(directory) / "ledger.sqlite"
        with Ledger.create(LedgerPlace(path, Ed25519PrivateKey.generate())) as ledger:
            start = time.perf_counter()
            data_set = ledger.data_set(ledger.fingerprint(f"record {i}") for i in range(67_349))
            print(f"learn 67349 records {time.perf_counter() - start:.2f} s")
            for age in range(4):
                _print("one plain append and sync", synced(Path(directory) / "plain"))
                for step, seconds in timed(ledger, data_set, age).items():
                    _print(f"after {age * ROUNDS:4} rounds {step:8}", seconds)
            start = time.perf_counter()
            count = ledger.verify()
            print(f"verify {count} entries, 67349 records {time.perf_counter() - start:.2f} s")


def synced(path: Path) -> list[float]:
    """Seconds the disk alone takes: a reservation syncs twice, the database and then its head file."""
    seconds = []
    with path.open("ab", buffering=0) as file:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            file.write(bytes(200))
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return seconds


def timed(ledger: Ledger, data_set: str, age: int) -> dict[str, list[float]]:
    """Seconds of each of `ROUNDS` reservations and of as many replies; `age` sets their names apart."""
    times: dict[str, list[float]] = {"reserve": [], "answer": []}
    for number in range(ROUNDS):
        name = f"campaigns/age-{age}/rounds/{number + 1}"
        start = time.perf_counter()
        ledger.reserve(data_set, name, FREE, NO_LIMIT)
        reserved = time.perf_counter()
        ledger.store_reply(name, REPLY)
        times["reserve"].append(reserved - start)
        times["answer"].append(time.perf_counter() - reserved)
    return times


def p50_and_p99_ms(seconds: list[float]) -> tuple[float, float]:
    """Milliseconds that half, and all but a hundredth, stayed within."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3


def _print(name: str, seconds: list[float]) -> None:
    p50, p99 = p50_and_p99_ms(seconds)
    print(f"{name:30} p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
