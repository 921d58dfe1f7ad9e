"""The memory of a stage is that of its processes, at its highest."""

import subprocess
import sys

from deploy.memory import watching

HOLD = "import time; held = b'1' * (200 << 20); print('ready', flush=True); time.sleep(600)"


def test_the_peak_counts_processes_that_have_ended() -> None:
    with watching() as alone:
        pass
    with watching() as peak:
        with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            peak.sample()
            child.kill()
        peak.sample()
    assert 200 < (peak.bytes - alone.bytes) / 2**20 < 260
