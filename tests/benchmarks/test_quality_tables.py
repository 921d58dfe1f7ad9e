"""The committed tables can be measured again by one command."""

import json

import pytest

from tests.benchmarks import quality_tables
from tests.benchmarks.quality_options import parser
from tests.benchmarks.quality_tables import MIXTURES, PUBLIC, arguments, public_text, sentences
from transfer.files.public_text import read_texts


@pytest.fixture
def folder(tmp_path):
    """Assets in which each source of a mixture has one text of two sentences and a short one."""
    for source in {source for sources in MIXTURES.values() for source in sources}:
        text = f"This one is from {source}. It goes on for some more words! Short."
        (tmp_path / source).mkdir(parents=True)
        (tmp_path / source / "train.jsonl").write_text(json.dumps({"text": text, "label": 1}) + "\n")
    return tmp_path


def test_sentences_are_neither_very_short_nor_very_long():
    long = " ".join(["word"] * 41) + "."
    texts = [f"Short. This has just five words. {long}", "And this is one without a stop"]
    assert list(sentences(texts)) == ["This has just five words.", "And this is one without a stop"]


def test_a_mixture_has_sentences_of_every_source_and_the_same_bytes_every_time(folder, monkeypatch):
    monkeypatch.setattr(quality_tables, "PART", 1)
    path = public_text("mix_tweets", folder, folder)
    once = path.read_bytes()
    assert read_texts(path) == [f"This one is from {source}." for source in MIXTURES["mix_tweets"]]
    assert public_text("mix_tweets", folder, folder).read_bytes() == once
    assert b"label" not in once


def test_a_source_that_is_missing_is_named(folder, capsys):
    (folder / "datasets/meld/train.jsonl").unlink()
    given = ["--assets", str(folder), "--model", "none", "--tasks", "tweet_emotion"]
    with pytest.raises(SystemExit):
        quality_tables.main([*given, "--out", str(folder / "out.json")])
    assert "datasets/meld/train.jsonl: cannot read" in capsys.readouterr().err


@pytest.mark.assets
@pytest.mark.parametrize("task", PUBLIC)
def test_each_task_has_its_data_and_enough_public_text(task, assets, tmp_path):
    asked = parser(None, report=False).parse_args(
        arguments(task, assets, "lab-llama-7m", tmp_path / "out.json")
    )
    assert all(path.exists() for path in (asked.task, asked.private, asked.test, asked.corpus))
    assert len(read_texts(asked.public)) >= 1600


@pytest.mark.assets
@pytest.mark.slow
def test_one_command_measures_the_tasks_that_are_asked_for(assets, tmp_path):
    out = tmp_path / "deep" / "out.json"
    given = ["--assets", str(assets), "--model", "lab-llama-7m", "--out", str(out), "--tasks", "trec", "subj"]
    short = ["--proxy-layers", "1", "--distil-steps", "0", "--test-rows", "20", "--methods", "bare"]
    quality_tables.main([*given, *short])
    measured = [json.loads(line)["settings"] for line in out.read_text().splitlines()]
    assert [cell["task"].split()[0] for cell in measured] == ["trec", "subj"]
    assert [cell["test_rows"] for cell in measured] == [20, 20]
