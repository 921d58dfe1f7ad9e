"""What tests of this room share."""

from pathlib import Path

import pytest

from tests.client.commands.command import ROWS, TASK, Command


@pytest.fixture
def client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    (tmp_path / "train.jsonl").write_text(ROWS)
    (tmp_path / "task.toml").write_text(TASK)
    return Command(tmp_path / "client", capsys)


@pytest.fixture
def ready(client: Command) -> Command:
    assert client.init("--task", "reviews", "--proxy", "*", "--delta", "1e-4") == 0
    return client
