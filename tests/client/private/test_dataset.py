"""The daemon's reading of the private file says once in the log what the task cuts, and nothing of the text."""

import json
import logging
from pathlib import Path

import pytest

from client.ledger.ledger import Ledger
from client.private.dataset import DataFile
from tests.client.ledgers import at
from transfer.models.loading import load
from transfer.tasks import Task


def test_what_is_cut_is_logged_once_for_each_reading(
    tmp_path: Path, tiny_causal: Path, tiny_task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    path, model = tmp_path / "train.jsonl", load(tiny_causal)
    texts = ["the film was great " * 40, "fine", "so so"]
    path.write_text("".join(json.dumps({"text": text, "label": 0}) + "\n" for text in texts))
    with Ledger.create(at(tmp_path / "ledger.db")) as ledger, caplog.at_level(logging.INFO):
        data = DataFile(path, ledger)
        for _ in range(3):
            records, _name = data.open(tiny_task, model, "record")
        told = [record.getMessage() for record in caplog.records]
        assert len(records.texts) == 3
        assert len(told) == 1
        assert told[0].startswith(f"{path}: 1 of 3 texts and 0 answers are longer than the task allows")
        assert "great" not in told[0]
        path.write_text('{"text": "fine", "label": 0}\n')
        data.open(tiny_task, model, "record")
        assert len(caplog.records) == 1
