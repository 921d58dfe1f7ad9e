"""Every architecture that transformers has a causal or masked LM of: it is served rightly, or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.utils import logging

from tests.families.properties import measured
from tests.families.table import FAMILY
from tests.families.tiny import kinds
from tests.families.tokenizers import tokenizer_of

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, of a hundred architectures

QUICK = {
    "llama causal",
    "gemma3n_text causal",
}
"""What the default run tries; the slow one tries all."""

KINDS = [
    pytest.param(kind, id=kind.name, marks=[] if kind.name in QUICK else [pytest.mark.slow(minutes=10)])
    for kind in kinds()
]


@pytest.fixture(autouse=True)
def _quiet():
    """Transformers says on loading what is unusual of a model; a hundred architectures say a lot."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crashes_and_nothing_differs_silently(
    kind, tmp_path: Path, record_property: Callable[[str, object], None]
):
    row = measured(kind, tokenizer_of(kind.lm_head), tmp_path / kind.model_type)
    record_property(FAMILY, {"kind": kind.name, "class": kind.architecture, **row})
    faults = {name: told for name, told in row.items() if told.startswith(("CRASH", "DIFFERENT"))}
    assert not faults
