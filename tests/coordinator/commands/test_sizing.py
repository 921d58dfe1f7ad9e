"""The plan of a campaign whose target cannot be sized."""


def test_a_plan_that_launches_is_told_also_if_its_target_cannot_be_sized(proxied, plan_file, store, tmp_path):
    away = tmp_path / "away"
    plan_file.write_text(f'target = "{away}"\n' + plan_file.read_text())
    answer = proxied.json("round", "launch", plan_file, "--dry-run")
    assert proxied.status == 0
    assert "not sized:" in proxied.err
    assert (answer["campaign"], answer["needs"], store.campaigns()) == ("first", [], [])
