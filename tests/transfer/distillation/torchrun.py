"""Several processes of one command, which the real torchrun starts; they talk on loopback alone."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ended:
    """A run of torchrun: its status, and what it and its processes wrote."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines in which a command told why it ended."""
        return re.findall(r"^error: .*$", self.err, re.MULTILINE)


def started(count: int, *words: object, **environment: str) -> subprocess.Popen[str]:
    """Begin `count` processes of a command beside this interpreter."""
    known = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    known |= {"OMP_NUM_THREADS": "1", **environment}
    how = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", count, "--no-python")
    command = [str(word) for word in (BIN / "torchrun", *how, *words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=known)


def ended(process: subprocess.Popen[str], within_s: float = 240) -> Ended:
    """Wait for the end of a run; end it if it takes longer."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # torchrun ends its processes
        out, err = process.communicate(timeout=60)
        raise AssertionError(f"still running after {within_s} s: {out}{err}") from None
    return Ended(process.returncode, out, err)


def run(count: int, *words: object, **environment: str) -> Ended:
    """Run `count` processes of a command to their end."""
    return ended(started(count, *words, **environment))
