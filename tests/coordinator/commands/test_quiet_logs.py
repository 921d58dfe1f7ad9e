"""What a command writes to a log: its own lines, and none of the libraries' bars and greetings."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "promptferry-coordinator"
LINE = re.compile(r"[-0-9]+T[0-9:]+Z (INFO|WARNING) (client|coordinator|transfer)[.a-z_]*: [^\r]+")


def distil(directory: Path, text: Path, *words: object) -> list[str]:
    made = "proxy", "distil", "--layers", 1, "--text", text, "--name", "tiny", *words
    return [str(word) for word in (COMMAND, "--dir", directory, *made)]


@pytest.mark.slow
def test_a_distillation_logs_its_own_lines_alone(command, public_text, tmp_path) -> None:
    done = subprocess.run(
        distil(command.directory, public_text, "--steps", 3), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("proxy tiny ")
    assert [line for line in done.stderr.splitlines() if not LINE.fullmatch(line)] == []


def test_a_bad_name_is_told_before_anything_is_loaded(command, public_text) -> None:
    started = subprocess.Popen(
        distil(command.directory, public_text, "--name", "Bad Name"), stderr=subprocess.PIPE, text=True
    )
    with started.stderr as err:
        told = err.read()
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    assert started.returncode == 2
    assert "'Bad Name'" in told
    assert used.ru_utime + used.ru_stime <= 1.0


@pytest.mark.slow
def test_an_interrupted_distillation_says_how_it_goes_on(command, public_text) -> None:
    started = subprocess.Popen(
        distil(command.directory, public_text, "--steps", 100_000), stderr=subprocess.PIPE, text=True
    )
    checkpoints = command.directory / "proxies" / ".tiny.unfinished"
    deadline = time.monotonic() + 120
    while not checkpoints.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "run the same command with --resume to continue from the last one" in err
    assert err.endswith("error: interrupted\n")
