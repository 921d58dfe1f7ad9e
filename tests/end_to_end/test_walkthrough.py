"""The README's walk-through, carried out line by line as it stands there."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import environment, free_ports, wait_for_line

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- walkthrough: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
ENVIRONMENT = {
    **environment(),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


class Terminals:
    """Shells in one directory; those still running at the end are stopped with everything they started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def background(self, script: str, name: str, ready: str, times: int = 1) -> None:
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euc", script], cwd=self.directory, env=ENVIRONMENT, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        wait_for_line(process, log, ready, timeout_s=600, times=times)

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        for process in reversed(self._running):
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            process.wait(30)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    shells = Terminals(tmp_path)
    yield shells
    shells.close()


def test_the_walk_through_of_the_readme_works_to_the_letter(terminals: Terminals) -> None:
    blocks = dict(BLOCK.findall(README))
    assert set(blocks) == {"setup", "coordinator", "client", "operator", "user"}
    place = terminals.directory
    (place / "deploy").symlink_to(ROOT / "deploy")
    terminals.run(blocks["setup"])
    delivery, fleet = free_ports(2)  # the README's own ports may be taken here; nothing else is changed
    coordinator = blocks["coordinator"].replace(
        "init coordinator", f"init coordinator --port {delivery} --fleet-port {fleet}"
    )
    terminals.background(coordinator, "coordinator", "serving:")
    terminals.background(blocks["client"] + "wait\n", "clients", "connected to the coordinator", times=3)
    assert "published" in terminals.run(blocks["operator"])
    answers = terminals.run(blocks["user"].replace("127.0.0.1:9292", f"127.0.0.1:{delivery}"))
    assert "sport" in answers
    assert (place / "prompt" / "adapter_model.safetensors").is_file()
