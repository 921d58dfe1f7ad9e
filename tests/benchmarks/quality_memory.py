"""The most memory that one piece of work held, where the system can tell it from what came before."""

import resource
from contextlib import suppress
from pathlib import Path

PROCESS = Path("/proc/self")


def forget_peak() -> None:
    """Let the peak fall to what is held now; does nothing where a process may not write its `clear_refs`."""
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")  # see proc(5): the peak resident set size


def peak_mib() -> int:
    """The most resident memory since `forget_peak`, or of the whole process where the peak cannot fall."""
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            name, _, told = line.partition(":")
            if name == "VmHWM":
                return int(told.split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
