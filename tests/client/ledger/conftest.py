"""What tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from tests.client.ledger.forgeries import NAME, copy, fill
from tests.client.ledgers import at


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A closed ledger of two data sets that were merged, ten rounds and ten replies."""
    path = tmp_path_factory.mktemp("original") / NAME
    with Ledger.create(at(path)) as ledger:
        fill(ledger, range(5))
        ledger.data_set([ledger.fingerprint("other")])
        ledger.data_set([ledger.fingerprint("other"), ledger.fingerprint("record 3")])
        fill(ledger, range(5, 10))
        assert ledger.verify() == 23
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return copy(original, tmp_path)


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """A new ledger where the test wants one: its file names another `path`."""
    with Ledger.create(at(path)) as ledger:
        yield ledger
