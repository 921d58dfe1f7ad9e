"""`promptferry-client data check`: what is in the private file, and what a task makes of it."""

import json
from pathlib import Path

import pytest

from tests.client.commands.command import ROWS, TASK, Command


def test_data_check_counts_the_labels_by_names_or_by_task(ready: Command) -> None:
    found = ready.json("data", "check", "--labels", "positive, negative")
    assert (found["records"], found["labels"]) == (2, {"positive": 1, "negative": 1})
    assert (found["faults"], found["more_faults"], found["lengths"]) == ([], 0, None)
    assert ready.json("data", "check", "--task", ready.directory.parent / "task.toml") == found
    assert ready("data", "check", "--labels", "positive,negative") == 0
    assert "positive" in ready.out


def test_data_check_counts_answers_in_free_text(ready: Command) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    words = 'name = "slots"\ntemplate = "{text} It was {answer}"\ninit_text = "A sentence"\n'
    task.write_text(words + 'kind = "text"\n')
    assert ready("data", "check", "--task", task) == 2
    assert "train.jsonl:1: field 'answer': missing" in ready.err
    path.write_text('{"text": "fine", "answer": "a film"}\n' * 3)
    assert ready("data", "check", "--task", task) == 0
    assert ready.out.startswith(f"{path}: 3 records, each with its answer in free text\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", ROWS + "{oops\n", "train.jsonl:3: malformed JSON"),
        ("train.jsonl", ROWS + '{"text": 3, "label": 0}\n', "train.jsonl:3: field 'text': a number"),
        ("train.jsonl", ROWS + '{"text": "x"}\n', "train.jsonl:3: field 'label': missing"),
        (
            "train.jsonl",
            ROWS + '{"text": "x", "label": "neutral"}\n',
            "field 'label': unknown label 'neutral'",
        ),
        ("train.csv", "text,label\nfine,positive\nbad,negative,3\n", "train.csv:3: 3 columns"),
        ("train.csv", "words,label\nfine,positive\n", "train.csv:1: field 'text'"),
    ],
)
def test_malformed_data_is_one_line_with_file_line_and_field(
    ready: Command, name: str, content: str, message: str
) -> None:
    path = ready.directory.parent / name
    path.write_text(content)
    settings = ready.directory / "client.toml"
    settings.write_text(settings.read_text().replace("train.jsonl", name))
    assert ready("data", "check", "--labels", "positive,negative") == 2
    assert message in ready.err
    assert ready.err.count("\n") == 1


def test_data_check_tells_every_fault_and_still_counts_the_good_records(ready: Command) -> None:
    path = ready.directory.parent / "train.jsonl"
    path.write_text(ROWS + '{"text": ""}\n' * 12 + '{"text": "x", "label": "neutral"}\n')
    assert ready("data", "check", "--labels", "positive,negative") == 2
    told = ready.err.splitlines()
    assert len(told) == 21
    assert told[:2] == [
        f"error: {path}:3: field 'text': empty",
        f"error: {path}:3: field 'label': missing",
    ]
    assert told[-1] == "error: and 5 more faults"
    found = ready.json("data", "check", "--labels", "positive,negative")
    assert (ready.status, found["records"], found["labels"]) == (2, 2, {"positive": 1, "negative": 1})
    assert (len(found["faults"]), found["more_faults"]) == (20, 5)


def test_data_check_counts_what_a_task_would_cut(ready: Command, tiny_causal: Path) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    long = json.dumps({"text": "the film was great " * 40, "label": "positive"}) + "\n"
    path.write_text(ROWS + long)
    task.write_text(TASK.replace("max_tokens = 64", "max_tokens = 32"))
    asked = "data", "check", "--task", task
    assert ready.json(*asked)["lengths"] is None
    assert ready(*asked) == 0
    assert "to count what max_tokens = 32 cuts, give --proxy" in " ".join(ready.out.split())
    cut = ready.json(*asked, "--proxy", tiny_causal)["lengths"]
    assert (cut["max_tokens"], cut["cut_records"], cut["cut_answers"]) == (32, 1, 0)
    assert cut["cut_tokens"] == cut["longest"] - 32 > 100
    assert cut["median"] < 32
    assert ready(*asked, "--proxy", tiny_causal) == 0
    assert "1 of 3 records lose the end of their text" in " ".join(ready.out.split())


def test_data_check_counts_answers_that_are_cut(ready: Command, tiny_causal: Path) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    task.write_text(TASK.partition("[labels]")[0] + 'kind = "text"\nanswer_tokens = 3\n')
    answers = "great", "a great film and a bad plot"
    path.write_text("".join(json.dumps({"text": "a film", "answer": answer}) + "\n" for answer in answers))
    cut = ready.json("data", "check", "--task", task, "--proxy", tiny_causal)["lengths"]
    assert (cut["cut_records"], cut["cut_answers"]) == (0, 1)


def test_data_check_wants_the_class_names_in_exactly_one_way(ready: Command) -> None:
    assert ready("data", "check") == 2
    assert ready("data", "check", "--labels", "a,b", "--task", ready.directory.parent / "task.toml") == 2
    assert "--labels a,b,c or with --task" in ready.err


def test_data_check_tries_the_label_words_on_a_proxy(ready: Command, tiny_causal: Path) -> None:
    task = ready.directory.parent / "task.toml"
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 0
    task.write_text(TASK.replace('"great", "good"', '"unbelievable"'))
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 2
    assert "label word 'unbelievable' of 'positive' is" in ready.err
    task.write_text(TASK.replace('"great", "good"', '"bad"'))
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 2
    assert "label word 'bad' stands for both 'positive' and 'negative'" in ready.err
    assert ready("data", "check", "--task", ready.directory.parent / "x.toml", "--proxy", tiny_causal) == 2


def test_a_directory_without_a_model_is_named(ready: Command) -> None:
    words = "data", "check", "--task", ready.directory.parent / "task.toml", "--proxy", ready.directory
    assert ready(*words) == 2
    assert (
        ready.err
        == f"error: {ready.directory}: not a model directory: config.json is missing; name another directory\n"
    )


def test_data_check_counts_every_label_of_a_record_that_has_several(ready: Command) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    task.write_text(
        'name = "reviews"\ntemplate = "{text}"\ninit_text = "Say"\nlabel_reading = "head"\nmany = true\n'
        "[labels]\npositive = []\nnegative = []\n"
    )
    rows = (["positive"], ["negative", "positive"], [])
    path.write_text("".join(json.dumps({"text": "a film", "labels": labels}) + "\n" for labels in rows))
    found = ready.json("data", "check", "--task", task)
    assert (found["records"], found["labels"]) == (3, {"positive": 2, "negative": 1})
    assert ready("data", "check", "--labels", "positive,negative") == 2
    assert "field 'label': missing" in ready.err
