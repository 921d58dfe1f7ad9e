from dataclasses import replace

import pytest

from transfer.errors import TaskError
from transfer.tasks import Label, Task

LABELS = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
TASK = Task("reviews", "{text} It was {answer}", LABELS, "A sentence about a review", max_tokens=24)
FILE = """
name = "reviews"
template = "{text} It was {answer}."
init_text = "A sentence about a review"
[labels]
positive = ["great", "good"]
negative = ["bad"]
"""


def written(tmp_path, text):
    path = tmp_path / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "no blank {text}"}, "template"),
        ({"template": "{answer} before {text}"}, "template"),
        ({"template": "only {answer}"}, "template"),
        ({"template": "{text} {answer} {answer}"}, "template"),
        ({"template": "{text} {answer} {text}"}, "template"),
        ({"labels": LABELS[:1]}, "two or more"),
        ({"labels": (*LABELS, Label("positive", ("fine",)))}, "different classes"),
        ({"labels": (LABELS[0], Label("empty", ()))}, "'empty' has no label words"),
        (
            {"labels": (LABELS[0], Label("other", ("great",)))},
            "'great' stands for both 'positive' and 'other'",
        ),
        ({"labels": (LABELS[0], Label("other", ("poor", "poor")))}, "'poor' stands for 'other' twice"),
        ({"labels": (LABELS[0], Label("other", (" bad",)))}, "' bad' of 'other'"),
        ({"init_text": "  "}, "init_text"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"kind": "image"}, "kind 'image' must be one of label, text"),
        ({"kind": "text"}, r"labels \['positive', 'negative'\] and any head must go"),
        ({"answer_tokens": 0}, "answer_tokens 0"),
        ({"label_reading": "last"}, "label_reading 'last' must be one of single, first, whole"),
        ({"name": "Movie Reviews"}, "'Movie Reviews'"),
    ],
)
def test_an_impossible_task_names_the_rule_it_breaks(change, says):
    with pytest.raises(TaskError, match=says) as caught:
        replace(TASK, **change)
    assert "\n" not in str(caught.value)


def test_a_task_file_is_read_as_it_stands(tmp_path):
    task = Task.from_toml(written(tmp_path, FILE))
    assert task.labels == (Label("positive", ("great", "good")), Label("negative", ("bad",)))
    assert (task.template, task.max_tokens) == ("{text} It was {answer}.", 128)
    assert task.label_names == ("positive", "negative")


def test_a_task_answered_in_free_text_has_no_labels(tmp_path):
    head = FILE.partition("[labels]")[0]
    task = Task.from_toml(written(tmp_path, head + 'kind = "text"\nanswer_tokens = 4'))
    assert (task.kind, task.labels, task.answer_tokens) == ("text", (), 4)
    with pytest.raises(TaskError, match="missing key 'labels'"):
        Task.from_toml(written(tmp_path, head))


def test_a_chat_is_told_in_the_task_file(tmp_path):
    said = 'chat = true\nsystem = "Be kind."\nprompt_at = "user"\n[labels]'
    task = Task.from_toml(written(tmp_path, FILE.replace("[labels]", said)))
    assert (task.chat, task.system, task.prompt_at) == (True, "Be kind.", "user")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name =", "nam =", "unknown key 'nam'"),
        ('name = "reviews"', "", "missing key 'name'"),
        ("[labels]", "[classes]", "unknown key 'classes'"),
        ('name = "reviews"', "name = 7", "name 7 must be a string"),
        ('["bad"]', '"bad"', "labels.negative 'bad' must be a list"),
        ('["bad"]', "[1]", "labels.negative [1] must be a list"),
        ("[labels]", 'max_tokens = "many"\n[labels]', "max_tokens 'many' must be a whole number"),
        ("[labels]", "max_tokens = true\n[labels]", "max_tokens True must be a whole number"),
        ("[labels]", "label_reading = 1\n[labels]", "label_reading 1 must be a string"),
        ("[labels]", "chat = 1\n[labels]", "chat 1 must be true or false"),
        ("[labels]", 'system = "Be kind."\n[labels]', "system needs chat = true"),
        ("[labels]", 'prompt_at = "user"\n[labels]', 'prompt_at = "user" needs chat = true'),
        (
            "[labels]",
            'chat = true\nprompt_at = "end"\n[labels]',
            "prompt_at 'end' must be one of start, user",
        ),
        ("[labels]", 'chat = true\nsystem = " x"\n[labels]', "system ' x' has spaces around it; remove them"),
        ("[labels]", 'label_reading = "all"\n[labels]', "label_reading 'all' must be one of"),
        ('["bad"]', '["good"]', "label word 'good'"),
        ("{answer}", "", "template"),
        ("[labels]", "[labels", "not TOML"),
    ],
)
def test_a_wrong_task_file_is_named_with_its_key_in_one_line(tmp_path, old, new, says):
    path = written(tmp_path, FILE.replace(old, new))
    with pytest.raises(TaskError) as caught:
        Task.from_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_task_file_is_named(tmp_path, content):
    path = tmp_path / "task.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(TaskError, match=r"task\.toml: "):
        Task.from_toml(path)
