"""Records with several labels each are read whole, or refused in one line that quotes nothing of them."""

import json
import traceback
from pathlib import Path

import pytest

from client.private.records import examine, read
from transfer.errors import DataError

LABELS = ("billing", "delivery", "late fee")
SECRET = "Zq7-the-patient-said"
ROWS = [("the parcel", (1, 2)), ("nothing at all", ()), ("my bill", (0,))]


def saved(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "names.jsonl",
            (
                '{"text": "the parcel", "labels": ["late fee", "delivery"], "label": "ignored"}\n'
                '{"text": "nothing at all", "labels": []}\n{"text": "my bill", "labels": ["billing"]}\n'
            ),
        ),
        (
            "indices.jsonl",
            (
                '{"text": "the parcel", "labels": [1, "late fee"]}\n'
                '{"text": "nothing at all", "labels": []}\n{"text": "my bill", "labels": [0]}\n'
            ),
        ),
        ("a.csv", "text,labels\nthe parcel,delivery|late fee\nnothing at all,\nmy bill,billing\n"),
        ("b.csv", "labels;text\n late fee | 1 ;the parcel\n  ;nothing at all\n0;my bill\n"),
        ("c.tsv", "text\tlabels\nthe parcel\tdelivery|late fee\nnothing at all\t\nmy bill\tbilling\n"),
    ],
)
def test_labels_are_a_list_or_in_a_table_names_between_bars(tmp_path: Path, name: str, content: str) -> None:
    records = read(saved(tmp_path / name, content), LABELS, many=True)
    assert list(zip(records.texts, records.labels, strict=True)) == ROWS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "SECRET", "label": "billing"}', "field 'labels': missing"),
        (
            '{"text": "SECRET", "labels": "billing"}',
            "field 'labels': a string, but must be an array of indices",
        ),
        ('{"text": "SECRET", "labels": null}', "field 'labels': null, but must be an array"),
        ('{"text": "SECRET", "labels": {"SECRET": 1}}', "field 'labels': an object, but must be an array"),
        (
            '{"text": "x", "labels": ["billing", "SECRET"]}',
            "field 'labels': item 2 of 2 is none of the labels",
        ),
        ('{"text": "x", "labels": [["SECRET"]]}', "field 'labels': item 1 of 1 is none of the labels"),
        (
            '{"text": "x", "labels": [3]}',
            "field 'labels': item 1 of 1 is none of the labels (labels: billing, ",
        ),
        ('{"text": "x", "labels": [null]}', "field 'labels': item 1 of 1 is none of the labels"),
        (
            '{"text": "SECRET", "labels": [1, "billing", "delivery"]}',
            "field 'labels': item 3 of 3 repeats item 1",
        ),
        ('{"text": "", "labels": []}', "field 'text': empty"),
        (
            '{"text": "SECRET", "labels": ["SEC',
            'malformed JSON: write one object per line, {"text": …, "labels": …}',
        ),
    ],
)
def test_a_bad_list_is_named_by_its_place_and_never_quoted(tmp_path: Path, line: str, message: str) -> None:
    path = saved(tmp_path / "train.jsonl", line.replace("SECRET", SECRET))
    assert_refused(path, f"{path}:1: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,labels\nx,SECRET\n", "2: field 'labels': item 1 of 1 is none of the labels"),
        ("text,labels\nx,billing|SECRET|delivery\n", "2: field 'labels': item 2 of 3 is none of the labels"),
        ("text,labels\nSECRET,billing|\n", "2: field 'labels': item 2 of 2 is none of the labels"),
        ('text,labels\nSECRET,"billing,delivery"\n', "2: field 'labels': item 1 of 1 is none of the labels"),
        ("text,labels\nSECRET,billing|billing\n", "2: field 'labels': item 2 of 2 repeats item 1; keep one"),
        ("text,label\nSECRET,billing\n", "1: field 'labels': the header must name it once (text,labels)"),
    ],
)
def test_a_bad_cell_is_named_by_its_place_and_never_quoted(
    tmp_path: Path, content: str, message: str
) -> None:
    path = saved(tmp_path / "train.csv", content.replace("SECRET", SECRET))
    assert_refused(path, f"{path}:{message}")


def test_names_with_the_bar_in_them_need_jsonl(tmp_path: Path) -> None:
    names = ("a|b", "c")
    table = saved(tmp_path / "train.csv", "text,labels\nfine,c\n")
    with pytest.raises(DataError, match=r"label 'a\|b' of the task has .* write the records as \.jsonl"):
        read(table, names, many=True)
    lines = saved(tmp_path / "train.jsonl", json.dumps({"text": "fine", "labels": ["a|b"]}))
    assert read(lines, names, many=True).labels == ((0,),)


def test_every_fault_of_a_file_is_found(tmp_path: Path) -> None:
    rows = [{"text": "a", "labels": [0]}, {"text": "b", "labels": ["none"]}, {"text": "c", "labels": []}]
    path = saved(tmp_path / "train.jsonl", "\n".join(map(json.dumps, rows)))
    found = examine(path, LABELS, many=True)
    assert found.records is not None
    assert found.records.labels == ((0,), ())
    assert len(found.faults) == 1


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path, LABELS, many=True)
    error: BaseException | None = caught.value
    assert str(error).startswith(message)
    assert "\n" not in str(error)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    while error is not None:
        assert SECRET not in repr(vars(error)) + repr(error.args)
        error = error.__cause__ or error.__context__
