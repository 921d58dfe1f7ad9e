"""The results of an audit as one page that needs nothing else."""

import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.client.commands.audited import PLANTED, SMALL
from tests.client.commands.command import Command, spend
from transfer.privacy import Spend


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
    auditing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = {path: path.read_bytes() for path in auditing.directory.rglob("*") if path.is_file()}
    page = tmp_path / "audit.html"
    membership = "--task", tmp_path / "task.toml", "--shadows", 4, "--steps", 2, "--epsilon", "inf"
    report = auditing.json("audit", "--trials", 200, "--canaries", 50, *membership, "--page", page)
    assert auditing.status == 0
    assert [found["audit"] for found in report["findings"]] == ["mechanism", "one-run", "membership"]
    assert report["passed"] is True
    assert all(found["passed"] and found["verdict"] for found in report["findings"])
    assert "no privacy budget, and nothing left this machine" in report["note"]
    assert {"promptferry", "torch", "opacus"} <= set(report["versions"])
    assert "declined" not in auditing.err + caplog.text
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
        assert planted[:12] not in text + auditing.out + auditing.err + caplog.text
    assert list((tmp_path / "tmp").iterdir()) == []
    assert before == {path: path.read_bytes() for path in auditing.directory.rglob("*") if path.is_file()}


def test_an_existing_file_is_never_taken_for_a_page(auditing: Command, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    before = data.read_bytes()
    assert auditing("audit", *SMALL, "--page", data) == 1
    assert f"{data} exists already: it is never overwritten" in auditing.err
    assert data.read_bytes() == before


def test_the_page_names_the_campaigns_that_the_ledger_knows(auditing: Command, tmp_path: Path) -> None:
    spend(auditing, Spend(4.0, 0.1, 1), 1)
    report = auditing.json("audit", *SMALL, "--page", tmp_path / "audit.html")
    assert report["campaigns"] == ["a"]
    assert "Campaigns in its ledger: a." in (tmp_path / "audit.html").read_text()
