"""The `promptferry-coordinator` command on a directory of its own."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from coordinator.commands.main import app
from coordinator.home.settings import read
from coordinator.store.store import Store
from transfer.terminal import console


class Command:
    """`promptferry-coordinator` in this process, on one directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.capsys = directory, capsys
        self.status, self.out, self.err = 0, "", ""

    def __call__(self, *words: object) -> int:
        handlers, level = logging.root.handlers[:], logging.root.level
        with pytest.raises(SystemExit) as caught:
            console.run(app, ["--dir", str(self.directory), *map(str, words)])
        logging.root.handlers[:] = handlers  # a command's own handler writes to a stream that ends with it
        logging.root.setLevel(level)
        self.out, self.err = self.capsys.readouterr()
        assert isinstance(caught.value.code, int)
        self.status = caught.value.code
        return self.status

    def json(self, *words: object) -> Any:
        """What the command writes as JSON, whatever its exit status."""
        self("--format", "json", *words)
        return json.loads(self.out)


@pytest.fixture
def command(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """A coordinator made by `init` on free ports."""
    made = Command(tmp_path / "coordinator", capsys)
    ports = ("--port", 29292, "--fleet-port", 29191)
    assert made("init", made.directory, "--target", tiny_causal, "--name", "tiny-target", *ports) == 0, (
        made.err
    )
    return made


TASK = """name = "reviews"
template = "{text} It was {answer}"
init_text = "A sentence about a review"
max_tokens = 32
[labels]
positive = ["great", "good"]
negative = ["terrible", "bad"]
"""


PLAN = """name = "first"
task = "task.toml"
proxy = "tiny"
public_text = "public.txt"
rounds = 2
[tuning]
noise_multiplier = 2.0
steps = 5
[transfer]
steps = 4
[publish]
prompt = "tiny-prompt"
require_improvement = false
"""


@pytest.fixture
def proxied(command: Command, public_text: Path) -> Command:
    """A coordinator with an undistilled proxy called tiny."""
    words = ("--layers", "1", "--text", public_text, "--name", "tiny", "--steps", "0")
    assert command("proxy", "distil", *words) == 0, command.err
    return command


@pytest.fixture
def plan_file(proxied: Command) -> Path:
    """A plan of two rounds beside the coordinator's directory."""
    directory = proxied.directory.parent
    (directory / "task.toml").write_text(TASK, encoding="utf-8")
    (directory / "plan.toml").write_text(PLAN, encoding="utf-8")
    return directory / "plan.toml"


@pytest.fixture
def store(command):
    opened = Store.open(read(command.directory).store.url)
    yield opened
    opened.close()
