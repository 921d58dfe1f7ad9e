"""A task file says that a text may have several labels, what each weighs, and from where on one applies."""

from pathlib import Path

import pytest

from transfer.errors import TaskError
from transfer.tasks import Label, Task

FILE = """
name = "topics"
template = "{text}"
init_text = "Name the topics of this text"
label_reading = "head"
many = true
threshold = 0.25
[labels]
sports = []
"good food" = []
music = []
[weights]
sports = 2
"good food" = 0.5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_several_labels_a_text_are_declared_with_their_weights_and_a_threshold(tmp_path: Path) -> None:
    task = Task.from_toml(written(tmp_path, FILE))
    assert (task.many, task.threshold, task.head_rows) == (True, 0.25, 3)
    assert task.labels == (Label("sports", (), 2.0), Label("good food", (), 0.5), Label("music", ()))
    usual = Task.from_toml(written(tmp_path, FILE.partition("[weights]")[0].replace("threshold = 0.25", "")))
    assert (usual.threshold, [label.weight for label in usual.labels]) == (0.5, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('label_reading = "head"', "", "needs {text} and then {answer}"),
        ("many = true", "", "weights needs many = true"),
        ("many = true", 'many = "yes"', "many 'yes' must be true or false"),
        ("threshold = 0.25", "threshold = 1.0", "threshold 1.0 must be in (0, 1)"),
        ("threshold = 0.25", "threshold = 0.0", "threshold 0.0 must be in (0, 1)"),
        ("threshold = 0.25", "threshold = nan", "threshold nan must be in (0, 1)"),
        ("threshold = 0.25", "threshold = 1", "threshold 1 must be a number in (0, 1)"),
        ("sports = 2", "sports = 0", "weight 0.0 of label 'sports' must be finite and > 0"),
        ("sports = 2", "sports = -1.5", "weight -1.5 of label 'sports' must be finite and > 0"),
        ("sports = 2", "sports = inf", "weight inf of label 'sports' must be finite and > 0"),
        ("sports = 2", f"sports = 1{'0' * 400}", "weight inf of label 'sports' must be finite and > 0"),
        ("sports = 2", 'sports = "2"', "weights.sports '2' must be a number > 0"),
        ("sports = 2", "sports = true", "weights.sports True must be a number > 0"),
        ("sports = 2", "sport = 2", "weights.sport: no label has this name"),
        ("[weights]", "[weight]", "unknown key 'weight'"),
    ],
)
def test_what_a_task_cannot_declare_is_named_in_one_line(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    path = written(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(TaskError) as caught:
        Task.from_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("many = true", 'many = true needs label_reading = "head"'),
        ("threshold = 0.4", "threshold needs many = true"),
    ],
)
def test_label_words_exclude_each_other_so_they_have_neither(tmp_path: Path, keys: str, says: str) -> None:
    words = f'name = "x"\ntemplate = "{{text}} {{answer}}"\ninit_text = "Say"\n{keys}\n'
    with pytest.raises(TaskError) as caught:
        Task.from_toml(written(tmp_path, words + '[labels]\ngood = ["good"]\nbad = ["bad"]\n'))
    assert says in str(caught.value)
