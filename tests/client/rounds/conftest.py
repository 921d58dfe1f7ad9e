"""What tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.rounds.owner import Owner
from transfer.tasks import Task


@pytest.fixture
def owner(tmp_path: Path, tiny_causal: Path, tiny_task: Task) -> Iterator[Owner]:
    owner = Owner(tmp_path, tiny_causal, tiny_task)
    yield owner
    owner.ledger.close()
