"""The delivered directory: everything there and back, golden files, and files that do not belong together."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.peft_directory import CONFIG_FILE, HEAD_FILE, HEAD_KEY, WEIGHTS_FILE, PeftDirectory
from transfer.prompt import SoftPrompt

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
MODEL = ModelRef("tiny-target", "c" * 64)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, min_size=6, max_size=6), st.integers(0, 1))
@settings(max_examples=50, deadline=None)
def test_every_prompt_loads_back_bit_for_bit(values: list[float], head_rows: int) -> None:
    both = SoftPrompt(torch.tensor(values).reshape(2, 3), MODEL)
    read = PeftDirectory.from_files(PeftDirectory.of(both, head_rows).to_files("causal"), MODEL, head_rows)
    rows = [read.prompt.vectors, *([read.head.vectors] if read.head else [])]
    assert torch.equal(torch.cat(rows).view(torch.int32), both.vectors.view(torch.int32))


def test_a_head_is_a_file_of_its_own() -> None:
    both = SoftPrompt(torch.arange(15.0).reshape(5, 3), MODEL)
    files = PeftDirectory.of(both, 2).to_files("causal")
    assert torch.equal(SoftPrompt.from_bytes(files[WEIGHTS_FILE], MODEL).vectors, both.vectors[:3])
    assert torch.equal(SoftPrompt.from_bytes(files[HEAD_FILE], MODEL, HEAD_KEY).vectors, both.vectors[3:])
    assert b'"num_virtual_tokens": 3' in files[CONFIG_FILE]


@pytest.mark.parametrize(("name", "head_rows"), [("words", 0), ("head", 2), ("library", 0)])
def test_golden_files_are_written_back_byte_for_byte(name: str, head_rows: int) -> None:
    names = (CONFIG_FILE, WEIGHTS_FILE, *([HEAD_FILE] if head_rows else []))
    files = {name_: (GOLDEN / name / name_).read_bytes() for name_ in names}
    assert PeftDirectory.from_files(files, MODEL, head_rows).to_files("causal") == files


def test_files_that_do_not_belong_together_are_refused() -> None:
    with_head = PeftDirectory.of(SoftPrompt(torch.ones(5, 3), MODEL), 2).to_files("causal")
    without = PeftDirectory.of(SoftPrompt(torch.ones(5, 3), MODEL), 0).to_files("causal")
    for files, head_rows, message in (
        (with_head, 0, "head.safetensors: a head and a task read by one belong together"),
        (without, 2, "head.safetensors: a head and a task read by one belong together"),
        (with_head, 3, "head.safetensors: 2 classes where the task has 3"),
        ({**without, "x.bin": b""}, 0, "the statement is about"),
        ({WEIGHTS_FILE: without[WEIGHTS_FILE]}, 0, "belongs to a prompt before everything"),
    ):
        with pytest.raises(VerificationError, match=message):
            PeftDirectory.from_files(files, MODEL, head_rows)


@pytest.mark.parametrize("head_rows", [0, 2])
def test_a_prompt_in_a_users_turn_has_no_configuration_for_peft_to_misplace_it_by(head_rows: int) -> None:
    both = SoftPrompt(torch.arange(15.0).reshape(5, 3), MODEL)
    files = PeftDirectory.of(both, head_rows).to_files("causal", "user")
    assert set(files) == {WEIGHTS_FILE, *([HEAD_FILE] if head_rows else [])}
    assert torch.equal(PeftDirectory.from_files(files, MODEL, head_rows, "user").whole.vectors, both.vectors)
    config = PeftDirectory.of(both, head_rows).to_files("causal")
    for wrong, place in ((files, "start"), (config, "user")):
        with pytest.raises(VerificationError, match="and to no prompt in a chat's user turn"):
            PeftDirectory.from_files(wrong, MODEL, head_rows, place)
