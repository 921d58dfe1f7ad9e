"""Real processes on loopback: commands that must succeed, and daemons that stop at the end."""

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
"""Longest wait, in seconds, for a daemon's ready line; covers imports on a busy machine."""
STOP_S = 15.0
BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Return different free ports of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def environment() -> dict[str, str]:
    """Return this process's environment, with the Hugging Face hub offline and quiet libraries."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def command(*arguments: object, json_result: bool = False) -> Any:
    """Run a command to its end, with its progress on our stderr; return its JSON result if `json_result`.

    Raises:
        PromptferryError: its exit status is not 0; its own error line is already on stderr.
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
    """Run a process until the body ends; it is ready when `ready` appears in its log.

    Raises:
        PromptferryError: the process ended before it was ready; the message quotes its last line.
        DeadlineError: the process was not ready after `READY_S` seconds.
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
    """Wait until `ready` is in the log `times` times; it raises the errors of `daemon`."""
    deadline = time.monotonic() + timeout_s
    while (content := log.read_text(errors="replace")).count(ready) < times:
        if process.poll() is not None:
            last = content.strip().splitlines()[-1:] or ["nothing"]
            raise PromptferryError(
                f"{log}: the process ended with status {process.returncode}; its last line: {last[0]}"
            )
        if time.monotonic() > deadline:
            raise DeadlineError(f"{log}: no {ready!r} after {timeout_s:.0f} s")
        time.sleep(0.05)
