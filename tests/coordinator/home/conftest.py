"""What tests of this room share."""

from pathlib import Path

import pytest

from coordinator.home import pki
from coordinator.home.pki import PkiPaths


@pytest.fixture
def paths(tmp_path: Path) -> PkiPaths:
    paths = PkiPaths.under(tmp_path / "coordinator")
    pki.create(paths, ["coordinator.example", "192.0.2.7"])
    return paths
