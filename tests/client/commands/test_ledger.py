"""`promptferry-client ledger`: what was spent, and whether the ledger can be trusted."""

import shutil
from dataclasses import asdict
from pathlib import Path

from client.ledger.entries import Declined
from tests.client.commands.command import Command, spend
from transfer.privacy import Budget, Spend, epsilon


def test_ledger_show_tells_the_cost_of_each_data_set_and_every_entry(ready: Command) -> None:
    each = Spend(1.0, 0.1, 10)
    spend(ready, each, 2)
    shown = ready.json("ledger", "show")
    [data_set] = shown["data_sets"]
    assert data_set["epsilon"] == epsilon([each, each], 1e-4)
    assert data_set["budget"] == 8.0
    assert [entry["kind"] for entry in shown["entries"]] == ["records", "spend", "reply", "spend", "reply"]
    assert shown["entries"][1]["spend"] == asdict(each)
    assert shown["declines"] == []
    assert ready("ledger", "show") == 0
    assert "data-" in ready.out
    assert "declined" not in ready.out


def test_ledger_show_tells_each_round_that_was_declined_and_why(ready: Command) -> None:
    said = Declined.of("campaigns/a/rounds/1", "policy", "[/b] asked")
    with ready.ledger() as ledger:
        ledger.decline(said)
    [entry] = ready.json("ledger", "show")["declines"]
    assert entry["declined"] == asdict(said)
    assert ready("ledger", "show") == 0
    assert ready.out.splitlines()[-2].split("│")[3:6] == [
        " campaigns/a/rounds/1 ",
        " policy  ",
        " [/b] asked ",
    ]


def test_ledger_verify_counts_entries_and_finds_a_changed_one(ready: Command) -> None:
    spend(ready, Spend(1.0, 0.1, 10), 1)
    assert ready.json("ledger", "verify")["entries"] == 3
    content = (ready.directory / "ledger.db").read_bytes()
    (ready.directory / "ledger.db").write_bytes(content.replace(b'"steps":10', b'"steps":11'))
    failed = ready.json("ledger", "verify")
    assert ready.status == 1
    assert failed["error"] == "ledger"


def test_a_declared_loss_is_charged_and_the_ledger_goes_on(ready: Command) -> None:
    old = ready.directory / "ledger.db"
    spend(ready, Spend(1.0, 0.1, 10), 1)
    kept = old.read_bytes()
    spend(ready, Spend(1.0, 0.1, 20), 0)
    with ready.ledger() as ledger:
        ledger.reserve(
            ledger.data_sets()[0], "campaigns/b/rounds/1", Spend(1.0, 0.1, 20), Budget(100.0, 1e-4)
        )
    for leftover in ready.directory.glob("ledger.db-*"):
        leftover.unlink()
    old.write_bytes(kept)
    assert ready("ledger", "show") == 1
    assert "declare-loss" in ready.err
    words = "ledger", "declare-loss", "--noise", 1.0, "--sample-rate", 0.1, "--steps", 20
    assert ready(*words) == 0
    shown = ready.json("ledger", "show")
    assert shown["data_sets"][0]["epsilon"] == epsilon([Spend(1.0, 0.1, 30)], 1e-4)


def test_a_directory_restored_from_a_backup_is_noticed_by_a_head_on_another_disk(
    ready: Command, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (ready.directory / "ledger.db.head").rename(tmp_path / "disk" / "head")
    settings = ready.directory / "client.toml"
    settings.write_text(
        settings.read_text().replace(
            '# ledger_head = "/mnt/other/ledger.db.head"', 'ledger_head = "../disk/head"'
        )
    )
    shutil.copytree(ready.directory, tmp_path / "backup")
    spend(ready, Spend(1.0, 0.1, 10), 1)
    assert ready("ledger", "verify") == 0
    shutil.rmtree(ready.directory)
    (tmp_path / "backup").rename(ready.directory)
    for words in (
        ("ledger", "verify"),
        ("ledger", "show"),
        ("plan", "--noise", 1, "--sample-rate", 0.1, "--steps", 1),
    ):
        assert ready(*words) == 1
        assert "was rolled back or cut: it has 0 entries" in ready.err
        assert "disk/head records 3" in ready.err
