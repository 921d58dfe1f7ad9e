"""Private text is read whole or refused in one line that never quotes it."""

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.private.records import PrivateRecords, read
from transfer.errors import DataError
from transfer.privacy import Unit

LABELS = ("negative", "positive")
SECRET = "Zq7-the-patient-said"


def jsonl(directory: Path, *lines: str | bytes) -> Path:
    path = directory / "train.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def table(directory: Path, content: str | bytes) -> Path:
    path = directory / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_jsonl_takes_labels_by_name_and_by_index_and_ignores_other_fields(tmp_path: Path):
    path = jsonl(
        tmp_path,
        '{"text": "good", "label": "positive"}',
        '{"label": 0, "text": "bad", "id": 7, "nested": {"text": "no"}}',
        "",
        '  {"text": "fine\\nindeed", "label": 1}  ',
        "",
    )
    records = read(path, LABELS)
    assert records.texts == ("good", "bad", "fine\nindeed")
    assert records.labels == (1, 0, 1)


def test_csv_takes_columns_in_any_order_quotes_and_line_breaks(tmp_path: Path):
    content = 'id,label,text\r\n1,positive,"good, ""very"" good\nindeed"\r\n\r\n2,0,bad\r\n'
    records = read(table(tmp_path, content), LABELS)
    assert records.texts == ('good, "very" good\nindeed', "bad")
    assert records.labels == (1, 0)


def test_a_byte_order_mark_is_not_part_of_the_data(tmp_path: Path):
    assert read(table(tmp_path, "\ufefftext,label\ngood,1\n"), LABELS).texts == ("good",)
    assert read(jsonl(tmp_path, '\ufeff{"text": "good", "label": 1}'), LABELS).texts == ("good",)


def test_without_labels_the_answer_is_free_text(tmp_path: Path):
    rows = jsonl(tmp_path, '{"text": "by ridley scott", "answer": "Ridley Scott", "label": 1}')
    for path in (rows, table(tmp_path, "text,answer\nby ridley scott,Ridley Scott\n")):
        records = read(path, ())
        assert (records.texts, records.labels) == (("by ridley scott",), ())
        assert records.answers == ("Ridley Scott",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "SECRET", "label": 1}', "field 'answer': missing"),
        ('{"text": "SECRET", "answer": 1}', "field 'answer': a number, but must be a string"),
        ('{"text": "SECRET", "answer": "  "}', "field 'answer': empty"),
        ('{"text": "x", "answer": "SECRET \\ud800"}', "field 'answer': half of a surrogate pair"),
        (
            '{"text": "SECRET", "answer": "SEC',
            'malformed JSON: write one object per line, {"text": …, "answer": …}',
        ),
        ('"SECRET"', "a string, but must be an object with text and answer"),
    ],
)
def test_a_bad_answer_is_named_without_its_text(tmp_path: Path, line: str, message: str):
    path = jsonl(tmp_path, line.replace("SECRET", SECRET))
    assert_refused(path, f"{path}:1: {message}", ())


def test_a_table_without_answers_is_refused(tmp_path: Path):
    path = table(tmp_path, f"text,label\n{SECRET},1\n")
    assert_refused(path, f"{path}:1: field 'answer': the header must name it once (text,answer)", ())


def test_a_label_that_is_a_digit_is_a_name_before_it_is_an_index(tmp_path: Path):
    assert read(table(tmp_path, "text,label\na,1\nb,2\n"), ("2", "1")).labels == (1, 0)


@given(st.lists(st.tuples(st.text(min_size=1).filter(str.strip), st.integers(0, 1)), min_size=1, max_size=5))
def test_what_is_written_as_jsonl_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    lines = [json.dumps({"text": t, "label": n}, ensure_ascii=False) for t, n in rows]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    records = read(path, LABELS)
    assert records == PrivateRecords(tuple(t for t, _ in rows), tuple(n for _, n in rows))


BAD_JSONL = [
    (
        '{"text": "SECRET", "label": "great"}',
        "field 'label': unknown label 'great' (labels: negative, positive)",
    ),
    ('{"text": "SECRET", "label": 2}', "field 'label': no label has this index (labels: negative, positive)"),
    (
        '{"text": "SECRET", "label": -1}',
        "field 'label': no label has this index (labels: negative, positive)",
    ),
    ('{"text": "SECRET", "label": true}', "field 'label': a boolean, but must be an index or a name"),
    ('{"text": "SECRET", "label": 1.0}', "field 'label': a number, but must be an index or a name"),
    ('{"text": "SECRET", "label": null}', "field 'label': null, but must be an index or a name"),
    ('{"text": "SECRET", "label": ["SECRET"]}', "field 'label': an array, but must be an index or a name"),
    ('{"text": "SECRET", "label": {}}', "field 'label': an object, but must be an index or a name"),
    ('{"text": "SECRET"}', "field 'label': missing"),
    ('{"label": 1}', "field 'text': missing"),
    ('{"text": 5, "label": 1}', "field 'text': a number, but must be a string"),
    ('{"text": null, "label": 1}', "field 'text': null, but must be a string"),
    ('{"text": " ", "label": 1}', "field 'text': empty"),
    ('{"text": "SECRET \\ud800", "label": 1}', "field 'text': half of a surrogate pair: not valid Unicode"),
    ('{"text": "SECRET", "label": 1', "malformed JSON: write one object per line"),
    ("SECRET", "malformed JSON: write one object per line"),
    ('"SECRET"', "a string, but must be an object with text and label"),
    ('["SECRET", 1]', "an array, but must be an object with text and label"),
    ('{"a": ' + "[" * 100_000, "malformed JSON: write one object per line"),
    ('{"text": "SECRET", "label": ' + "9" * 5000 + "}", "field 'label': no label has this index"),
    (b'{"text": "SECRET \xff", "label": 1}', "not UTF-8: save the file as UTF-8"),
]


@pytest.mark.parametrize(("line", "message"), BAD_JSONL, ids=lambda value: str(value)[:40])
def test_a_bad_line_of_jsonl_is_named_without_its_text(tmp_path: Path, line: str | bytes, message: str):
    line = (
        line.replace(b"SECRET", SECRET.encode())
        if isinstance(line, bytes)
        else line.replace("SECRET", SECRET)
    )
    path = jsonl(tmp_path, '{"text": "fine", "label": 1}', "", line, '{"text": "fine", "label": 1}')
    assert_refused(path, f"{path}:3: {message}")


BAD_CSV = [
    ("text,label\nfine,1\nSECRET,1,2\n", "3: 3 columns where the header has 2: quote commas"),
    (
        "text,label\nfine,1\nSECRET\n",
        "3: 1 column where the header has 2: fill in the missing ones, or quote a line break",
    ),
    ("text,tag\nSECRET,1\n", "1: field 'label': the header must name it once (text,label)"),
    ("SECRET,1\nSECRET,0\n", "1: field 'text': the header must name it once (text,label)"),
    ("text,label,text\nSECRET,1,SECRET\n", "1: field 'text': the header must name it once (text,label)"),
    (
        'text,label\n"two\nlines",1\nSECRET,bad\n',
        "4: field 'label': unknown label 'bad' (labels: negative, positive)",
    ),
    ('text,label\n"SECRET\nlines",\n', "2: field 'label': unknown label '' (labels: negative, positive)"),
    ("text,label\nSECRET,2\n", "2: field 'label': no label has this index (labels: negative, positive)"),
    ("text,label\nSECRET,-1\n", "2: field 'label': no label has this index (labels: negative, positive)"),
    ("text,label\n,1\n", "2: field 'text': empty"),
    ('text,label\nfine,1\n"SECRET"x,1\n', "3: malformed CSV: a quote is misplaced or a field is too long"),
    ('text,label\n"SECRET,1\n', "2: malformed CSV: a quote is never closed"),
    (
        'sep=,\ntext,label\n"SECRET,1\nfine,1\nfine,0\n',
        "3: malformed CSV: a quote is never closed; lines 3 to 5 were not read",
    ),
    (
        'text,label\n"SECRET,1\nfine,0\n"SECRET,1\n',
        "2: malformed CSV: a quote is misplaced or a field is too long; lines 2 to 4 were not read",
    ),
    (b"text,label\nSECRET \xe9,1\n", "2: not UTF-8: save the file as UTF-8"),
]


@pytest.mark.parametrize(("content", "message"), BAD_CSV, ids=lambda value: str(value)[:40])
def test_a_bad_row_of_csv_is_named_without_its_text(tmp_path: Path, content: str | bytes, message: str):
    if isinstance(content, bytes):
        content = content.replace(b"SECRET", SECRET.encode())
    else:
        content = content.replace("SECRET", SECRET)
    path = table(tmp_path, content)
    assert_refused(path, f"{path}:{message}")


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv"])
def test_a_file_without_records_is_refused(tmp_path: Path, name: str):
    for content in ("", "\n\n", "text,label\n" if name.endswith("csv") else " \n"):
        (tmp_path / name).write_text(content)
        assert_refused(tmp_path / name, f"{tmp_path / name}: no records")


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path):
    assert_refused(tmp_path / "none.csv", f"{tmp_path / 'none.csv'}: No such file or directory")
    (tmp_path / "folder.csv").mkdir()
    assert_refused(tmp_path / "folder.csv", f"{tmp_path / 'folder.csv'}: Is a directory")
    assert_refused(
        tmp_path / "train.txt", f"{tmp_path / 'train.txt'}: unknown format '.txt': use .jsonl, .csv or .tsv"
    )


def test_a_label_is_quoted_only_to_forty_characters_and_on_one_line(tmp_path: Path):
    path = jsonl(tmp_path, json.dumps({"text": "fine", "label": "first\nline " + SECRET * 20}))
    with pytest.raises(DataError) as caught:
        read(path, LABELS)
    message = str(caught.value)
    assert "\n" not in message
    quoted = message.partition("unknown label ")[2].partition(" (labels")[0]
    assert len(quoted) <= 40 + len("''") + len("\\")
    assert quoted.endswith("…'")


def test_records_show_nothing_of_themselves():
    records = PrivateRecords((SECRET,), (1,))
    assert repr(records) == str(records) == f"{records}" == "PrivateRecords"
    assert not hasattr(records, "__dict__")


@pytest.mark.parametrize(("texts", "labels"), [((), ()), (("a",), ()), (("a",), (0, 1))])
def test_records_without_text_or_with_too_few_labels_cannot_exist(texts, labels):
    with pytest.raises(DataError, match="one label or answer for each text"):
        PrivateRecords(texts, labels)


def test_records_have_labels_or_answers_and_not_both():
    for labels, answers in (((), ("a", "b")), ((0,), ("a",))):
        with pytest.raises(DataError, match="one label or answer for each text"):
            PrivateRecords(("text",), labels, answers)


def test_users_are_read_where_they_are_the_unit_and_ignored_elsewhere(tmp_path: Path):
    rows = [("good", "ann"), ("bad", "Ann"), ("fine", "ann"), ("so so", "ben ")]
    lines = [json.dumps({"text": text, "label": 1, "user": user}) for text, user in rows]
    content = "user,text,label\n" + "".join(f"{user},{text},1\n" for text, user in rows)
    for path in (jsonl(tmp_path, *lines), table(tmp_path, content)):
        records = read(path, LABELS, "user")
        assert records.users == ("ann", "Ann", "ann", "ben ")
        assert records.by_user() == [[0, 2], [1], [3]]
        assert read(path, LABELS).users == ()
    with pytest.raises(DataError, match="name no users"):
        read(path, LABELS).by_user()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "SECRET", "label": 1}', "field 'user': missing"),
        ('{"text": "x", "label": 1, "user": ""}', "field 'user': empty"),
        ('{"text": "x", "label": 1, "user": " "}', "field 'user': empty"),
        ('{"text": "x", "label": 1, "user": null}', "field 'user': null, but must be a string"),
        ('{"text": "x", "label": 1, "user": 77012}', "field 'user': a number, but must be a string"),
        ('{"text": "x", "label": 1, "user": ["SECRET"]}', "field 'user': an array, but must be a string"),
        ('{"text": "x", "label": 1, "user": "SECRET \\ud800"}', "field 'user': half of a surrogate pair"),
        (
            '{"text": "SECRET"',
            'malformed JSON: write one object per line, {"text": …, "label": …, "user": …}',
        ),
        ('"SECRET"', "a string, but must be an object with text and label and user"),
    ],
)
def test_a_record_that_does_not_say_whose_it_is_is_named_without_its_text(
    tmp_path: Path, line: str, message: str
):
    path = jsonl(tmp_path, line.replace("SECRET", SECRET))
    assert_refused(path, f"{path}:1: {message}", unit="user")


def test_a_table_without_users_is_refused(tmp_path: Path):
    path = table(tmp_path, f"text,label\n{SECRET},1\n")
    assert_refused(
        path, f"{path}:1: field 'user': the header must name it once (text,label,user)", unit="user"
    )
    path = table(tmp_path, f"text,label,user\nfine,1,ann\n{SECRET},1,\n")
    assert_refused(path, f"{path}:3: field 'user': empty", unit="user")


def test_records_name_a_user_each_or_none():
    with pytest.raises(DataError, match="a user for each text, or none"):
        PrivateRecords(("a", "b"), (0, 1), users=("ann",))


def assert_refused(path: Path, message: str, labels: tuple[str, ...] = LABELS, unit: Unit = "record") -> None:
    with pytest.raises(DataError) as caught:
        read(path, labels, unit)
    error = caught.value
    assert str(error).startswith(message)
    assert "\n" not in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))
    while error is not None:  # parser errors carry the document they failed on
        assert SECRET not in repr(vars(error)) + repr(error.args) + repr(getattr(error, "doc", ""))
        assert not isinstance(error, UnicodeError)
        error = error.__cause__ or error.__context__
