"""What tests of this room share."""

import pytest

from tests.coordinator.rounds.plans import TASK
from tests.coordinator.rounds.rounds import mallory_of


@pytest.fixture
def mallory(world):
    return world.enrol(mallory_of(world))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sst2.toml").write_text(TASK, encoding="utf-8")
    return tmp_path
