"""The guides' commands, carried out block by block as they stand there."""

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import environment, free_ports, wait_for_line
from tests.guides import ROOT, WALK, Block, blocks

ENVIRONMENT = {
    **environment(),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}
RUN = {
    "sh": ["bash", "-euc"],
    "python": [sys.executable, "-c"],
}

pytestmark = [pytest.mark.slow(minutes=14), pytest.mark.timeout(1800)]


class Terminals:
    """Shells in one directory; those still running at the end are stopped with everything they started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(directory / "state")}
        self._running: list[subprocess.Popen[bytes]] = []

    def background(self, script: str, name: str, ready: str, times: int = 1) -> None:
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euc", script], cwd=self.directory, env=self.environment, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        wait_for_line(process, log, ready, timeout_s=600, times=times)

    def run(self, block: Block, ports: dict[str, str]) -> str:
        done = subprocess.run(
            [*RUN[block.language], ported(block.script, ports)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}\n{block.script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """Stop what was started last, with everything it started."""
        process = self._running.pop()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)

    def close(self) -> None:
        while self._running:
            self.stop()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    shells = Terminals(tmp_path)
    yield shells
    shells.close()


def ported(script: str, ports: dict[str, str]) -> str:
    """The guides' own ports may be taken here; nothing else is changed."""
    for said, free in ports.items():
        script = script.replace(said, free)
    return script


def test_every_command_of_the_guides_works_to_the_letter(terminals: Terminals) -> None:
    trial, operator, recipient, owner = ([block for block in blocks(guide) if block.run] for guide in WALK)
    setup, coordinator, owners, campaign, fetched = trial
    delivery, fleet = free_ports(2)
    ports = {
        "init coordinator": f"init coordinator --port {delivery} --fleet-port {fleet}",
        "127.0.0.1:9292": f"127.0.0.1:{delivery}",
    }
    place = terminals.directory
    (place / "deploy").symlink_to(ROOT / "deploy")
    terminals.run(setup, ports)
    terminals.background(ported(coordinator.script, ports), "coordinator", "serving:")
    terminals.background(owners.script + "wait\n", "clients", "connected to the coordinator", times=3)
    assert "published" in terminals.run(campaign, ports)
    assert "sport" in terminals.run(fetched, ports)
    assert (place / "prompt" / "adapter_model.safetensors").is_file()
    said = {block.run: terminals.run(block, ports) for block in [*operator, *recipient]}
    terminals.stop()  # a daemon holds its client's directory
    said |= {block.run: terminals.run(block, ports) for block in owner}
    assert "version 3" in said["recipient-lists"]
    assert "sport" in said["recipient-fetches"]
    task = tomllib.loads((place / "world" / "task.toml").read_text(encoding="utf-8"))
    assert said["recipient-peft"].strip() in task["labels"]["sports"]
    assert "<html" in (place / "audit.html").read_text(encoding="utf-8")
    assert (place / "dana" / "vault.json").is_file()
