"""Sums of needs."""

from transfer.models.needs import Need, totals


def test_alternatives_are_in_no_sum_and_what_is_not_told_leaves_none():
    needs = [
        Need("transfer", "weights", 5, ""),
        Need("transfer", "kept", 2, ""),
        Need("transfer", "kept, checkpointing", 1, "", counted=False),
        Need("to each client", "proxy", None, ""),
        Need("to each client", "prompt", 3, ""),
    ]
    assert totals(needs) == {"transfer": 7, "to each client": None}
