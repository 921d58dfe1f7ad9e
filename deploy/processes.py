"""Real processes on loopback: commands that must succeed, daemons that are stopped at the end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transfer.errors import DeadlineError, PromptferryError

READY_S = 90.0
"""Longest wait, in seconds, for a daemon to say it is ready; covers imports on a busy machine."""
STOP_S = 15.0
BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def environment() -> dict[str, str]:
    """Ours, with colour off in logs and no hub to ask."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def command(*arguments: object, json_result: bool = False) -> Any:
    """Run one of our commands to its end, its progress on our stderr; its JSON result if asked for.

    Raises:
        PromptferryError: it ended with another status than 0; its own error line is already on stderr.
    """
    words = [str(word) for word in arguments]
    if json_result:
        words += ["--format", "json"]
    stdout = subprocess.PIPE if json_result else sys.stderr
    done = subprocess.run([BIN / words[0], *words[1:]], stdout=stdout, env=environment(), check=False)
    if done.returncode:
        raise PromptferryError(f"`{' '.join(words)}` ended with exit status {done.returncode}")
    return json.loads(done.stdout) if json_result else None


@contextlib.contextmanager
def daemon(*arguments: object, log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ready once `ready` is in its log, and is asked to stop when the block ends.

    Raises:
        PromptferryError: it ended before it was ready; quotes the last line it wrote.
        DeadlineError: it was not ready after `READY_S` seconds.
    """
    words = [str(word) for word in arguments]
    with log.open("ab") as out:
        process = subprocess.Popen([BIN / words[0], *words[1:]], stdout=out, stderr=out, env=environment())
    try:
        wait_for_line(process, log, ready)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_line(
    process: subprocess.Popen[bytes], log: Path, ready: str, timeout_s: float = READY_S, times: int = 1
) -> None:
    """Wait until `ready` is in the log `times` times; see `daemon` for what it raises."""
    deadline = time.monotonic() + timeout_s
    while (written := log.read_text(errors="replace")).count(ready) < times:
        if process.poll() is not None:
            last = written.strip().splitlines()[-1:] or ["nothing"]
            raise PromptferryError(
                f"{log}: the process ended with {process.returncode}; it last said: {last[0]}"
            )
        if time.monotonic() > deadline:
            raise DeadlineError(f"{log}: no {ready!r} after {timeout_s:.0f} s")
        time.sleep(0.05)
