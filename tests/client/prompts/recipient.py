"""What tests of this room share."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transfer.model_ref import ModelRef

VECTORS = torch.linspace(-1, 1, 4 * 32).reshape(4, 32)
TARGET = ModelRef("target", "a" * 64)


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def seen(tmp_path: Path) -> Any:
    path = tmp_path / "state" / "promptferry" / "versions.json"
    return json.loads(path.read_text()) if path.exists() else None


def assert_refused(outcome: Outcome, message: str, status: int = 6) -> None:
    """One line on stderr, nothing on stdout, the right exit status."""
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", outcome.err), outcome.err
