"""How fast a distillation goes is told at each measurement."""

import re

import pytest

from tests.transfer.distillation.lessons import SHORT, TEXTS, stirred
from transfer.distillation.distil import distil


def test_each_measurement_is_logged_with_speed_and_time_left(causal, caplog):
    with caplog.at_level("INFO", "transfer.distillation"):
        proxy = distil(stirred(causal), (0,), TEXTS, SHORT)
    lines = [
        re.fullmatch(r"step (\d) of 6: held-out KL (.*) nats, (\d+) tokens a second, at most (.*) left", line)
        for line in caplog.messages
    ]
    assert [line[1] for line in lines] == ["3", "6"]
    assert min(float(line[2]) for line in lines) == pytest.approx(proxy.held_out_kl, abs=1e-3)
    assert all(int(line[3]) > 0 for line in lines)
    assert lines[1][4] == "0:00:00"
