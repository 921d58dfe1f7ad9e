"""Bytes as people read them, and the plan of a campaign whose target cannot be sized."""

import pytest

from coordinator.commands.sizing import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "not measured"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2.5e6, "2.5 MB"),
        (141e9, "141.0 GB"),
    ],
)
def test_bytes_have_the_unit_that_fits(count, text):
    assert size(count if count is None else int(count)) == text


def test_a_plan_that_launches_is_told_also_if_its_target_cannot_be_sized(proxied, plan_file, store, tmp_path):
    away = tmp_path / "away"
    plan_file.write_text(f'target = "{away}"\n' + plan_file.read_text())
    answer = proxied.json("round", "launch", plan_file, "--dry-run")
    assert proxied.status == 0
    assert "not sized:" in proxied.err
    assert (answer["campaign"], answer["needs"], store.campaigns()) == ("first", [], [])
