"""What tests of this room share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from coordinator.network.admission import AdmissionLimits
from tests.coordinator.network.ports import Street


@pytest.fixture
def street() -> Iterator[Callable[[AdmissionLimits], Street]]:
    with ExitStack() as stack:
        yield lambda limits: Street(stack, limits)
