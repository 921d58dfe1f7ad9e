"""The command as an owner runs it: verdicts, numbers, one page, and nothing of the records in any of them."""

import json
import logging
import secrets
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

import client.tuning
from client import membership_audit
from client.noise import clip_to_grid
from tests.client.test_cli import TASK, Command, spend
from transfer.privacy import Spend

PLANTED = [secrets.token_hex(16) for _ in range(40)]
SMALL = "--only", "mechanism", "--trials", 200


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    ours = [logging.getLogger(name) for name in ("client.participant", "client.release")]
    before, levels = (root.handlers[:], root.level), [logger.level for logger in ours]
    yield
    root.handlers[:], root.level = before
    for logger, level in zip(ours, levels, strict=True):
        logger.setLevel(level)
    transformers_logging.enable_progress_bar()


@pytest.fixture
def owner(tmp_path: Path, tiny_causal: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    rows = [{"text": f"patient {text} was fine", "label": index % 2} for index, text in enumerate(PLANTED)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "tmp").mkdir()
    command = Command(tmp_path / "client", capsys)
    assert command.init("--task", "reviews", "--proxy", "*", "--threads", 1) == 0
    (command.directory / "proxies").mkdir()
    (command.directory / "proxies" / "tiny").symlink_to(tiny_causal)
    return command


class Page(HTMLParser):
    """Tags that were opened and closed in order, and the words between them."""

    VOID = frozenset({"meta", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [name for name, _ in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_all_audits_on_one_page_and_none_of_the_records_anywhere(
    owner: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = {path: path.read_bytes() for path in owner.directory.rglob("*") if path.is_file()}
    page = tmp_path / "audit.html"
    membership = "--task", tmp_path / "task.toml", "--shadows", 4, "--steps", 2, "--epsilon", "inf"
    report = owner.json("audit", "--trials", 200, "--canaries", 50, *membership, "--page", page)
    assert owner.status == 0
    assert [found["audit"] for found in report["findings"]] == ["mechanism", "one-run", "membership"]
    assert report["passed"] is True
    assert all(found["passed"] and found["verdict"] for found in report["findings"])
    assert "no privacy budget, and nothing left this machine" in report["note"]
    assert {"promptferry", "torch", "opacus"} <= set(report["versions"])
    assert "declined" not in owner.err + caplog.text
    text = page.read_text()
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.seen.count("svg") == 3
    assert parsed.links == []
    assert "script" not in parsed.seen
    assert not any(outside in text for outside in ("http", "url(", "@import"))
    assert all(found["verdict"][1:] in parsed.words for found in report["findings"])
    assert "Client hospital-a," in parsed.words
    assert "Campaigns in its ledger: none" in parsed.words
    assert "δ" in parsed.words
    assert not any(word in parsed.words for word in ("Δ", "Μ", "Mu", "Auc", "_"))
    explained = parsed.words.partition("Terms")[2]
    assert all(term in explained for term in ("ε", "δ", "σ", "μ", "AUC", "canary", "false alarm"))
    for planted in PLANTED:
        assert planted[:12] not in text + owner.out + owner.err + caplog.text
    assert list((tmp_path / "tmp").iterdir()) == []
    assert before == {path: path.read_bytes() for path in owner.directory.rglob("*") if path.is_file()}


def test_a_verdict_is_a_table_and_a_sentence(owner: Command) -> None:
    assert owner("audit", *SMALL) == 0
    assert "pass" in owner.out
    words = " ".join(owner.out.split())
    assert "mechanism: the noised sum tells no more about a record than is claimed" in words
    assert "This cost no privacy budget, and nothing left this machine." in words


def test_a_bound_above_its_claim_ends_with_status_one(
    owner: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        client.tuning, "clip_to_grid", lambda rows, clip, grid: clip_to_grid(rows, 5 * clip, grid)
    )
    page = tmp_path / "audit.html"
    assert owner("audit", *SMALL, "--page", page) == 1
    assert owner.err.endswith("error: failed: mechanism\n")
    assert "FAIL" in owner.out
    assert "answer no rounds with this installation" in " ".join(owner.out.split())
    assert '<span class="fail">FAIL</span>' in page.read_text()


def test_the_least_noise_of_the_policy_is_audited_if_asked(owner: Command) -> None:
    settings = owner.directory / "client.toml"
    settings.write_text(
        settings.read_text().replace("min_noise_multiplier = 0.0", "min_noise_multiplier = 2.0")
    )
    (found,) = owner.json("audit", *SMALL, "--policy-noise")["findings"]
    assert found["settings"]["noise_multiplier"] == 2.0
    assert found["claimed"] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--only", "membership"),
            "the membership audit needs --task TASK.toml: your records are read with it",
        ),
        (("--task", "task.toml", "--proxy", "big"), "--proxy big: proxies here: tiny"),
        (("--policy-noise",), "--policy-noise: [policy] min_noise_multiplier in client.toml is 0"),
        (
            ("--only", "one-run", "--only", "mechanism", "--trials", 5),
            "5 trials prove nothing: 100 are the least",
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
    owner: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert owner("audit", *words) == 2
    assert message in owner.err
    assert owner.err.count("error: ") == 1
    assert owner.err.splitlines()[-1].startswith("error: ")
    assert owner.out == ""


def test_an_existing_file_is_never_taken_for_a_page(owner: Command, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    before = data.read_bytes()
    assert owner("audit", *SMALL, "--page", data) == 1
    assert f"{data} exists already: it is never overwritten" in owner.err
    assert data.read_bytes() == before


def test_a_malformed_record_is_told_without_its_text(owner: Command, tmp_path: Path) -> None:
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(f'{{"text": "{PLANTED[0]}", "label"\n')
    assert owner("audit", "--task", tmp_path / "task.toml") == 2
    assert "train.jsonl:41: malformed JSON" in owner.err
    assert PLANTED[0] not in owner.err


def test_several_proxies_are_told_apart_by_name(owner: Command, tmp_path: Path, tiny_causal: Path) -> None:
    (owner.directory / "proxies" / "other").symlink_to(tiny_causal)
    assert owner("audit", "--task", tmp_path / "task.toml") == 2
    assert "--proxy is needed: proxies here: other, tiny" in owner.err


def test_a_limit_that_allows_everything_is_said_in_words() -> None:
    told = membership_audit._verdict("record", 8.0, 0.0, 0.51, 0.013, 0.99967)
    assert "finds 1.3 % of your records at 1 % false alarms" in told
    assert "ε 8 would not keep an attacker from finding nearly all" in told
    assert "at most 4.0 % are allowed" in membership_audit._verdict("user", 1.0, 0.0, 0.51, 0.01, 0.04)


def test_the_page_names_the_campaigns_that_the_ledger_knows(owner: Command, tmp_path: Path) -> None:
    spend(owner, Spend(4.0, 0.1, 1), 1)
    report = owner.json("audit", *SMALL, "--page", tmp_path / "audit.html")
    assert report["campaigns"] == ["a"]
    assert "Campaigns in its ledger: a." in (tmp_path / "audit.html").read_text()
