"""Text as people's programs write it."""

import pytest

from client.home.enrolment import Invitation
from client.private.records import read
from tests.client.private.sheets import ENDS, LABELS, csv_of, saved
from transfer.errors import ConfigError, DataError, TaskError
from transfer.files.public_text import read_texts
from transfer.files.toml import load
from transfer.tasks import Task


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("marked", [True, False])
def test_utf_16_is_refused_with_how_to_save_it(tmp_path, encoding, marked):
    mark = "\ufeff" if marked else ""
    content = (mark + csv_of("\t")).encode(encoding)
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "task.toml").write_bytes((mark + 'name = "a"').encode(encoding))
    for reading in (
        lambda: read(tmp_path / "a.csv", LABELS),
        lambda: read_texts(tmp_path / "a.txt"),
        lambda: Task.from_toml(tmp_path / "task.toml"),
        lambda: load(tmp_path / "task.toml", Invitation),
    ):
        with pytest.raises((DataError, TaskError, ConfigError), match="save the file as UTF-8") as caught:
            reading()
        assert "\n" not in str(caught.value)


TASK = 'name = "x"\ntemplate = "{text} It was {answer}."\ninit_text = "A"\n[labels]\nno = ["bad"]\nyes = ["great"]\n'


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_task_file_may_come_from_notepad(tmp_path, end):
    assert Task.from_toml(saved(tmp_path / "t.toml", TASK, end)).label_names == ("no", "yes")


@pytest.mark.parametrize(
    "line",
    [
        "max_tokens = " + "9" * 5000,
        "max_tokens = 0x" + "f" * 5000,
        "max_tokens = 1e999",
        "max_tokens = " + "9" * 18,
        "x = " + "[" * 5000 + "]" * 5000,
        'init_text = "\\ud800"',
        "[labels]\n1.0 = ['bad']",
    ],
    ids=lambda line: line[:20],
)
def test_a_task_file_with_an_impossible_value_is_one_line(tmp_path, line):
    path = saved(tmp_path / "t.toml", f"{line}\n" + ("" if "[labels]" in line else TASK))
    with pytest.raises(TaskError) as caught:
        Task.from_toml(path)
    assert str(caught.value).startswith(f"{path}")
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
