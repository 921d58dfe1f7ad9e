"""A canary's gradient is its own."""

from pathlib import Path

import numpy as np
import torch

from client.audit.canaries import TASK, CanaryProxy, write_records
from client.private.records import read
from transfer.models.loading import load
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients


def test_the_gradient_of_a_canary_is_a_dirac_of_its_own(tmp_path: Path) -> None:
    proxy = CanaryProxy.make(tmp_path, 60)
    included = np.arange(60) % 3 == 0
    write_records(tmp_path / "canaries.jsonl", included)
    records, model = read(tmp_path / "canaries.jsonl", TASK.label_names), load(tmp_path / "canary")
    encoder = model.encoder(TASK)
    data = LabelledLines(encoder.encode(records.texts), torch.tensor(records.labels), encoder.words)
    gradients = per_record_gradients(model, data, range(20), proxy.start().vectors)
    expected = torch.zeros(20, 3, 60)
    for row, place in enumerate(np.flatnonzero(included)):
        expected[row, 1, place], expected[row, 2, place] = -0.5, 0.5
    torch.testing.assert_close(gradients, expected, atol=1e-6, rtol=0)
