"""What a command says on stderr while it works."""

import logging
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from transfer.terminal import console


def test_without_a_terminal_progress_is_a_log_line_now_and_then(caplog) -> None:
    caplog.set_level(logging.INFO, "transfer.progress")
    with console.progress("tuning", every_s=0.02) as on_step:
        on_step(1, 3)
        time.sleep(0.03)
        on_step(2, 3)
        on_step(3, 3)
    assert [record.getMessage() for record in caplog.records] == ["tuning: step 2/3, about 0:00:00 left"]


def test_log_lines_carry_the_time_and_go_to_stderr() -> None:
    script = (
        "import logging; from transfer.terminal import console; "
        "console.log_to_stderr('info'); logging.info('hello')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo"},
    )
    assert done.stdout == ""
    stamp, _, rest = done.stderr.partition(" ")
    written = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z")
    assert abs((datetime.now(UTC) - written).total_seconds()) < 600
    assert rest == "INFO root: hello\n"


@pytest.mark.parametrize(("takes_s", "said"), [(0.0, ""), (0.3, "loading a model …\n")])
def test_what_takes_long_is_said(takes_s: float, said: str) -> None:
    script = (
        "import time\nfrom transfer import progress\n"
        "from transfer.terminal import console\nprogress.FIRST_AFTER_S = 0.1\n"
        f"with console.doing('loading a model'): time.sleep({takes_s})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", said)


TERMINAL = """
import logging, os, sys, time
from transfer.terminal import console
os.environ["TERM"] = "xterm"
console.log_to_stderr("info")
with console.progress("tuning", every_s=0.1, bar={bar}) as show:
    for step in range(1, 4):
        time.sleep(0.15)
        show(step, 3)
    logging.info("hello")
"""


@pytest.mark.parametrize("bar", [True, False])
def test_on_a_terminal_log_lines_stay_whole_beside_bars(bar: bool) -> None:
    ours, theirs = os.openpty()
    script = TERMINAL.format(bar=bar)
    with subprocess.Popen([sys.executable, "-c", script], stderr=theirs) as started:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert started.wait() == 0
    os.close(ours)
    text = shown.decode()
    assert ("━" in text) is bar
    assert ("tuning: step 2/3" in text) is not bar
    (line,) = [line for line in re.split(r"[\r\n]+", text) if "hello" in line]
    assert re.fullmatch(r"(\x1b\[[0-9]*[A-Za-z])*[-0-9TZ:]+ INFO root: hello", line), line


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # whoever wrote has left
        return b""
