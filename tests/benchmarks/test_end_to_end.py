"""The rows of the end-to-end table: every task and template, with privacy and without, as a run writes them."""

import json
from itertools import product
from pathlib import Path

from deploy.measure import NAMES
from tests.benchmarks.end_to_end import SIZES, first, row

ROWS = Path(__file__).parent / "results" / "smollm2-end-to-end.jsonl"


def test_every_run_of_the_table_is_committed_and_its_prompt_verified():
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    runs = [(each["task"], each["template"] == "chat", each["epsilon"] == "inf") for each in rows]
    assert sorted(runs) == sorted((*key, free) for key, free in product(SIZES, (False, True)))
    for each in rows:
        assert list(each["accuracy"]) == list(NAMES)
        assert each["delivered"]["verified"]
        assert each["delivered"]["peft_logits_max_abs_diff"] < 1e-4
        assert each["epsilon"] == "inf" or each["epsilon"] <= 8
        sizes = SIZES[each["task"], each["template"] == "chat"]
        assert {key: each[key] for key in sizes} == sizes


def test_a_row_has_what_was_asked_and_what_was_found():
    delivered = {
        "verified": True,
        "peft_accuracy": 0.5,
        "peft_logits_max_abs_diff": 0.0,
        "name": "x",
        "version": 1,
    }
    privacy = {"epsilon": 8.0, "delta": 1e-6, "unit": "record", "accountant": "prv"}
    report = {"accuracy": {"ceiling": None}, "seconds": {}, "peak_mib": {}, "clients": 3}
    found = row(report | {"delivered": delivered, "privacy": privacy}, {"task": "sst2"})
    committed = json.loads(ROWS.read_text(encoding="utf-8").splitlines()[0])
    assert set(found) == set(committed) - {"template", "public_steps", *SIZES["sst2", False]}
    assert list(found["delivered"]) == list(committed["delivered"])


def test_data_is_cut_to_its_first_lines(tmp_path):
    (tmp_path / "all").write_text("a\nb\nc\n")
    assert first(2, tmp_path / "all", tmp_path / "some").read_text() == "a\nb\n"
