"""What tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.client.rounds.answers import EACH
from tests.client.rounds.owner import Owner
from transfer.model_ref import ModelRef
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.rounds import RoundRequest, Tuning
from transfer.tasks import Task


@pytest.fixture
def owner(tmp_path: Path, tiny_causal: Path, tiny_task: Task) -> Iterator[Owner]:
    owner = Owner(tmp_path, tiny_causal, tiny_task)
    yield owner
    owner.ledger.close()


@pytest.fixture
def first(tiny_task: Task) -> RoundRequest:
    """The first request of a campaign."""
    start = SoftPrompt(torch.zeros(3, 32), ModelRef("tiny", "d" * 64))
    tuning = Tuning(EACH, clip_norm=0.5, learning_rate=0.1)
    return RoundRequest(
        "campaigns/fever/rounds/1", 3, "hospital-a", b"n" * 16, tiny_task, tuning, start, 3, Roster(())
    )
