"""A command line overrides the settings' placement, key by key."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from transfer.errors import UsageError
from transfer.placement.settings import Placement
from transfer.terminal.placement_options import Placed, spelled_out


def test_what_is_not_said_stays_as_it_was() -> None:
    settings = Placement(device="cuda:1", dtype="bfloat16", checkpointing=True)
    assert Placed().over(settings) == settings
    assert Placed(dtype="float16").over(settings) == settings.model_copy(update={"dtype": "float16"})
    spread = Placed("cpu", None, "nf4", ["0=70GiB", "cpu=1TB"], Path("there"), False).over()
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
        Placed(*said).over()


def tried(*names: str, words: list[str]) -> tuple[int, str, list[object]]:
    """Exit status, output, and what a command between two options of its own got."""
    app, got = typer.Typer(), []

    @app.command()
    @spelled_out(*names)
    def place(first: int = 0, *, placed: Placed, last: int = 0) -> None:
        got.extend([first, placed, last])

    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output, got


def test_a_command_has_every_option_in_the_place_of_one_parameter() -> None:
    words = ["--first=1", "--device=cpu", "--max-memory=cpu=1TB", "--no-checkpointing", "--last=2"]
    status, output, got = tried(words=words)
    assert status == 0, output
    assert got == [1, Placed("cpu", max_memory=["cpu=1TB"], checkpointing=False), 2]
    help_ = tried(words=["--help"])[1]
    places = [help_.index(f"--{name}") for name in ("first", "device", "quantise", "checkpointing", "last")]
    assert places == sorted(places)
    assert tried(words=[])[2] == [0, Placed(), 0]


def test_a_command_may_have_some_of_them() -> None:
    assert tried("device", words=["--device=cpu"])[2] == [0, Placed("cpu"), 0]
    assert tried("device", words=["--dtype=float16"])[0] == 2
