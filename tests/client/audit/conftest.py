"""What tests of this room share."""

from pathlib import Path

import pytest

from transfer.models.language_model import LanguageModel
from transfer.models.loading import load


@pytest.fixture(scope="module")
def model(tiny_causal: Path) -> LanguageModel:
    return load(tiny_causal)
