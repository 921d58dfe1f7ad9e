"""A label is the same class however a file holds it, and what could be two classes is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.private.records import read
from transfer.errors import DataError

NUMBERS = ("1", "2", "3")


def held(directory: Path, label: object) -> list[Path]:
    """Files that hold one record of that label: JSON as it is and as a string, CSV, TSV."""
    spelt = label if isinstance(label, str) else json.dumps(label)
    contents = {
        "value.jsonl": json.dumps({"text": "so so", "label": label}),
        "string.jsonl": json.dumps({"text": "so so", "label": spelt}),
        "table.csv": f'text,label\nso so,"{spelt}"\n',
        "table.tsv": f"text\tlabel\nso so\t{spelt}\n",
    }
    for name, content in contents.items():
        (directory / name).write_text(content)
    return [directory / name for name in contents]


@pytest.mark.parametrize(
    ("names", "label", "meant"),
    [
        (NUMBERS, 1, "1"),
        (NUMBERS, 3, "3"),
        (NUMBERS, "2", "2"),
        (NUMBERS, 2.0, "2"),
        (NUMBERS, "02", "2"),
        (("3", "2", "1"), 1, "1"),
        (("0", "1"), 0, "0"),
        (("1", "0"), 0, "0"),
        (("-1", "0", "1"), -1, "-1"),
        (("1.0", "2.0"), 1, "1.0"),
        (("1.0", "2.0"), "1", "1.0"),
        (("0.5", "1.5"), 0.5, "0.5"),
        (("01", "02"), 2, "02"),
        (("1", "1.0"), "1.0", "1.0"),
        (("1", "1.0"), 1, "1"),
        (("1e3", "10"), 1000, "1e3"),
        (("1", "other"), 1, "1"),
        (("1 star", "2 stars"), "2 stars", "2 stars"),
        (("*", "**"), "**", "**"),
        (("true", "false"), True, "true"),
        (("true", "false"), "TRUE", "true"),
        (("False", "True"), False, "False"),
        (("null", "some"), "null", "null"),
        (("negative", "positive"), 1, "positive"),
        (("negative", "positive"), "0", "negative"),
    ],
)
def test_a_label_is_the_same_class_in_every_file(tmp_path, names, label, meant):
    for path in held(tmp_path, label):
        assert [names[index] for index in read(path, names).labels] == [meant], path.name


@pytest.mark.parametrize(
    ("names", "label", "says"),
    [
        (NUMBERS, 0, r"unknown label '0' \(labels: 1, 2, 3\)"),
        (NUMBERS, 4, "unknown label '4'"),
        (NUMBERS, 1.5, "unknown label '1.5'"),
        (("1", "other"), 0, "unknown label '0'"),
        (("1", "01"), 1.0, "'1.0' could be '1' or '01': spell it as the task does, in quotes"),
        (("true", "True"), "TRUE", "'TRUE' could be 'true' or 'True'"),
        (("negative", "positive"), 2, "no label has this index"),
        (("negative", "positive"), -1, "no label has this index"),
        (("negative", "positive"), 10**30, "no label has this index"),
    ],
)
def test_a_label_that_is_no_class_or_two_is_refused_in_every_file(tmp_path, names, label, says):
    for path in held(tmp_path, label):
        with pytest.raises(DataError, match=f"field 'label': {says}"):
            read(path, names)


@pytest.mark.parametrize("spelt", ["null", "NaN", "Infinity", "1e999", "[1]", '{"1": 1}'])
def test_what_json_alone_can_say_is_refused_also_if_a_class_is_called_so(tmp_path, spelt):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "so so", "label": {spelt}}}')
    with pytest.raises(DataError, match="field 'label': "):
        read(tmp_path / "a.jsonl", ("null", "1", "NaN", "Infinity"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=6, unique=True), st.data())
def test_whole_numbers_as_names_are_never_taken_for_indices(tmp_path_factory, numbers, data):
    names, label = tuple(map(str, numbers)), data.draw(st.sampled_from(numbers))
    for path in held(tmp_path_factory.getbasetemp(), label):
        assert read(path, names).labels == (names.index(str(label)),)
