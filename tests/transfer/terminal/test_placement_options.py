"""A command line overrides the settings' placement, key by key."""

from pathlib import Path

import pytest

from transfer.errors import UsageError
from transfer.placement.settings import Placement
from transfer.terminal.placement_options import placement


def test_what_is_not_said_stays_as_it_was() -> None:
    settings = Placement(device="cuda:1", dtype="bfloat16", checkpointing=True)
    assert placement(None, None, None, None, None, None, settings) == settings
    assert placement(None, "float16", None, None, None, None, settings) == settings.model_copy(
        update={"dtype": "float16"}
    )
    spread = placement("cpu", None, "nf4", ["0=70GiB", "cpu=1TB"], Path("there"), False)
    assert spread.max_memory == {"0": "70GiB", "cpu": "1TB"}
    assert (spread.device, spread.quantise, spread.offload, spread.checkpointing) == (
        "cpu",
        "nf4",
        Path("there"),
        False,
    )


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (("gpu", None, None, None), "--device 'gpu'"),
        ((None, "int4", None, None), "--dtype 'int4'"),
        ((None, None, "nf3", None), "--quantise 'nf3'"),
        ((None, None, None, ["0"]), "--max-memory ''"),
        ((None, None, None, ["disk=1GB"]), "max_memory 'disk' must be the number of a GPU"),
    ],
)
def test_an_impossible_option_is_named(
    said: tuple[str | None, str | None, str | None, list[str] | None], line: str
) -> None:
    with pytest.raises(UsageError, match=line):
        placement(*said, None, None)
