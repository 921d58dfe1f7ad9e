"""The command as an owner runs it: verdicts, numbers, one page, and nothing of the records in any of them."""

from pathlib import Path

import pytest

import client.private.dpsgd
from client.audit import membership as membership_audit
from client.private.noise import clip_to_grid
from tests.client.commands.audited import PLANTED, SMALL
from tests.client.commands.command import Command


def test_a_verdict_is_a_table_and_a_sentence(auditing: Command) -> None:
    assert auditing("audit", *SMALL) == 0
    assert "pass" in auditing.out
    words = " ".join(auditing.out.split())
    assert "mechanism: the noised sum reveals no more about a record than is claimed" in words
    assert "This cost no privacy budget, and nothing left this machine." in words


def test_a_bound_above_its_claim_ends_with_status_one(
    auditing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        client.private.dpsgd, "clip_to_grid", lambda rows, clip, grid: clip_to_grid(rows, 5 * clip, grid)
    )
    page = tmp_path / "audit.html"
    assert auditing("audit", *SMALL, "--page", page) == 1
    assert auditing.err.endswith("error: failed: mechanism\n")
    assert "FAIL" in auditing.out
    assert "answer no rounds with this installation" in " ".join(auditing.out.split())
    assert '<span class="fail">FAIL</span>' in page.read_text()


def test_the_least_noise_of_the_policy_is_audited_if_asked(auditing: Command) -> None:
    settings = auditing.directory / "client.toml"
    settings.write_text(
        settings.read_text().replace("min_noise_multiplier = 0.0", "min_noise_multiplier = 2.0")
    )
    (found,) = auditing.json("audit", *SMALL, "--policy-noise")["findings"]
    assert found["settings"]["noise_multiplier"] == 2.0
    assert found["claimed"] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--only", "membership"),
            "the membership audit needs --task TASK.toml, to read your records",
        ),
        (("--task", "task.toml", "--proxy", "big"), "--proxy big: proxies here: tiny"),
        (("--policy-noise",), "--policy-noise: [policy] min_noise_multiplier in client.toml is 0"),
        (
            ("--only", "one-run", "--only", "mechanism", "--trials", 5),
            "5 trials prove nothing: use at least 100",
        ),
        (("--canaries", 3), "3 canaries: the audit takes 50 to 5000"),
        (("--shadows", 1), "membership audit: shadows 1 must be ≥ 4"),
        (("--task", "absent.toml"), "absent.toml: cannot read the task file: No such file or directory"),
        (("--page", "absent/audit.html"), "--page absent/audit.html: absent is not a directory"),
        (("--task", "task.toml", "--public-text", "absent.txt"), "absent.txt"),
        (
            ("--task", "task.toml", "--sample-rate", 2, "--epsilon", "inf"),
            "sample rate 2.0 must be in (0, 1]",
        ),
        (("--task", "task.toml", "--epsilon", -1), "budget ε -1.0 must be > 0"),
    ],
)
def test_what_cannot_be_audited_is_one_line_before_anything_runs(
    auditing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert auditing("audit", *words) == 2
    assert message in auditing.err
    assert auditing.err.count("error: ") == 1
    assert auditing.err.splitlines()[-1].startswith("error: ")
    assert auditing.out == ""


def test_a_malformed_record_is_told_without_its_text(auditing: Command, tmp_path: Path) -> None:
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(f'{{"text": "{PLANTED[0]}", "label"\n')
    assert auditing("audit", "--task", tmp_path / "task.toml") == 2
    assert "train.jsonl:41: malformed JSON" in auditing.err
    assert PLANTED[0] not in auditing.err


def test_several_proxies_are_told_apart_by_name(auditing: Command, tmp_path: Path, tiny_causal: Path) -> None:
    (auditing.directory / "proxies" / "other").symlink_to(tiny_causal)
    assert auditing("audit", "--task", tmp_path / "task.toml") == 2
    assert "--proxy is needed: proxies here: other, tiny" in auditing.err


def test_a_limit_that_allows_everything_is_said_in_words() -> None:
    told = membership_audit._verdict("record", 8.0, 0.0, 0.51, 0.013, 0.99967)
    assert "finds 1.3 % of your records at 1 % false alarms" in told
    assert "ε 8 would not keep an attacker from finding nearly all" in told
    assert "at most 4.0 % are allowed" in membership_audit._verdict("user", 1.0, 0.0, 0.51, 0.01, 0.04)
