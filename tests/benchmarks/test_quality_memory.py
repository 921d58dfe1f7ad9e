"""A cell's peak memory is that of the cell."""

import json
import mmap
import os
import resource

import pytest

from tests.benchmarks import quality, quality_memory
from tests.benchmarks.quality_memory import forget_peak, peak_mib

HELD = 64
MIB = 2**20


def hold(mebibytes):
    """Hold so much and give it back, by a mapping of its own: an allocator may keep what it is given back."""
    with mmap.mmap(-1, mebibytes * MIB) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1


told_apart = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a process cannot fall here"
)


@told_apart
def test_a_cell_is_not_charged_with_what_was_held_before_it(inputs, tmp_path):
    hold(8 * HELD)
    before, out = peak_mib(), tmp_path / "out.json"
    quality.main([*inputs, "--methods", "bare", "--out", str(out)])
    assert 0 < json.loads(out.read_text())["peak_mib"] < before - HELD


@told_apart
def test_a_peak_is_the_most_held_since_it_was_forgotten():
    forget_peak()
    before = peak_mib()
    hold(HELD)
    assert before + HELD // 2 < peak_mib() < before + 2 * HELD
    forget_peak()
    assert peak_mib() < before + HELD // 2


def test_where_the_system_does_not_tell_it_is_the_peak_of_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(quality_memory, "PROCESS", tmp_path / "none")
    forget_peak()
    assert peak_mib() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
