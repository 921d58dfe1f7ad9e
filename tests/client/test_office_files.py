"""What Windows and Excel write is read as what was meant, or refused with how to save it."""

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import publisher_key, vault
from client.enrolment import Invitation
from client.private_data import FAULTS_TOLD, examine, read
from coordinator import pki
from coordinator.pki import PkiPaths
from transfer.errors import ConfigError, DataError, TaskError, UsageError
from transfer.settings import load
from transfer.tasks import Task
from transfer.texts import read_texts

LABELS = ("bad", "good")
ENDS = {"unix": "\n", "windows": "\r\n", "old mac": "\r"}
ROWS = [("“fine” – it’s", 1), ("so; so, indeed", 0), ('a "quoted"\nline', 1)]


def saved(path: Path, content: str, end: str = "\n", mark: bytes = codecs.BOM_UTF8) -> Path:
    path.write_bytes(mark + content.replace("\n", end).encode())
    return path


def csv_of(delimiter: str, *, extra: str = "") -> str:
    quoted = [
        f'"{text.replace(chr(34), chr(34) * 2)}"{delimiter}{LABELS[label]}{extra}' for text, label in ROWS
    ]
    return "\n".join([f"text{delimiter}label{extra}", *quoted]) + "\n"


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["bare", "marked"])
@pytest.mark.parametrize(
    ("first", "delimiter"), [("", ","), ("", ";"), ("", "\t"), ("sep=;\n", ";"), ("sep=|\n", "|")]
)
def test_a_table_is_read_with_any_mark_line_end_and_delimiter(tmp_path, end, mark, first, delimiter):
    path = saved(tmp_path / "DATA.CSV", first + csv_of(delimiter), end, mark)
    records = read(path, LABELS)
    assert records.texts == tuple(text.replace("\n", end) for text, _ in ROWS)
    assert records.labels == tuple(label for _, label in ROWS)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_lines_of_json_are_read_with_any_line_end_and_a_mark_in_mid_file(tmp_path, end):
    content = (
        "\n\n\ufeff".join(json.dumps({"text": text, "label": label}) for text, label in ROWS) + "\n\n\x1a"
    )
    records = read(saved(tmp_path / "Data.JSONL", content, end), LABELS)
    assert records.texts == tuple(text for text, _ in ROWS)


def test_empty_rows_and_columns_at_the_end_of_a_sheet_are_no_records(tmp_path):
    path = saved(tmp_path / "a.csv", csv_of(";", extra=";;") + ";;;\n\n;;;\n")
    assert len(read(path, LABELS).texts) == 3
    path = saved(tmp_path / "a.csv", "text;label;;\nfine;good\npoor;bad;;;;\n")
    assert read(path, LABELS).labels == (1, 0)


def test_columns_are_found_by_name_but_for_case_and_spaces(tmp_path):
    path = saved(tmp_path / "a.csv", "Id; Text ;LABEL\n1;fine;good\n")
    assert read(path, LABELS).texts == ("fine",)


def test_a_header_without_its_columns_says_how_it_was_parted_and_quotes_nothing(tmp_path):
    path = saved(tmp_path / "a.csv", "secret one;secret two;secret three\nx;y;z\n")
    with pytest.raises(DataError) as caught:
        read(path, LABELS)
    told = (
        "1: field 'text': the header must name it once (text,label); it has 3 columns, parted by semicolons"
    )
    assert str(caught.value) == f"{path}:{told}"


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


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_records_or_one_line(tmp_path_factory, content):
    for name, head in (("a.csv", b"text,label\n"), ("a.jsonl", b""), ("a.csv", b"")):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(head + content)
        told = ""
        try:
            read(path, LABELS)
        except DataError as error:
            told = str(error)
        assert "\n" not in told
        assert "\r" not in told


def test_all_faults_are_told_to_a_limit(tmp_path):
    rows = ["fine,good", ",worse", '"x"y,good', "a,b,c", *[",good"] * 30, "fine,bad"]
    found = examine(saved(tmp_path / "a.csv", "\n".join(["text,label", *rows])), LABELS)
    assert found.records is not None
    assert found.records.labels == (1, 0)
    told = [fault.removeprefix(f"{tmp_path / 'a.csv'}:") for fault in found.faults]
    assert told[:4] == [
        "3: field 'text': empty",
        "3: field 'label': unknown label 'worse' (labels: bad, good)",
        "4: malformed CSV: a quote is misplaced or a field is too long",
        "5: 3 columns where the header has 2: quote commas",
    ]
    assert (len(told), found.more_faults) == (FAULTS_TOLD, 34 - FAULTS_TOLD)


def test_a_public_text_reads_what_private_text_does(tmp_path):
    for end in ENDS.values():
        assert read_texts(saved(tmp_path / "A.TXT", "one\ntwo\n", end)) == ["one", "two"]
        lines = '{"text": "one", "n": 1e999, "m": ' + "9" * 5000 + '}\n{"text": "two"}\n'
        assert read_texts(saved(tmp_path / "a.Jsonl", lines, end)) == ["one", "two"]


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


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_keys_and_secrets_may_be_saved_by_notepad(tmp_path, end):
    paths = PkiPaths.under(tmp_path)
    pki.create(paths)
    pem = paths.publisher_public_key.read_text()
    assert publisher_key.load(saved(tmp_path / "p.pub", pem, end)) == publisher_key.load(
        paths.publisher_public_key
    )
    secret = saved(tmp_path / "secret", "a passphrase of words\n", end)
    secret.chmod(0o600)
    assert vault.read_secret(secret) == b"a passphrase of words"
    secret.write_bytes("a passphrase of words".encode("utf-16"))
    with pytest.raises(UsageError, match="is UTF-16"):
        vault.read_secret(secret)


def test_random_bytes_are_a_secret_as_they_are(tmp_path):
    for content in (bytes(range(32)), b"\xff\xfe" + b"x" * 30, b"x" * 31 + b"\r"):
        path = tmp_path / "secret"
        path.write_bytes(content)
        path.chmod(0o600)
        assert vault.read_secret(path) == content
