"""Public text in Parquet files."""

import hashlib
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from transfer.errors import DataError
from transfer.files.public_text import read_texts


def table(path, values, kind=None, **how):
    parquet.write_table(pa.table({"label": range(len(values)), "text": pa.array(values, kind)}), path, **how)
    return path


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_a_parquet_file_is_read_for_its_column_of_texts(tmp_path, kind):
    texts = [f"text {number}" for number in range(3000)]
    path = table(tmp_path / "public.PARQUET", ["", *texts, "  "], kind, row_group_size=700)
    assert read_texts(path) == texts


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        (["a", None], None, "public.parquet: row 2: 'text' is missing"),
        (["a", "b", "c\0"], None, "public.parquet: row 3: 'text' is missing, not UTF-8, or has a NUL byte"),
        ([b"a", b"b", b"\xff"], pa.binary(), "public.parquet: column 'text' holds binary, not strings"),
        ([1, 2], None, "public.parquet: column 'text' holds int64, not strings"),
        ([["a"], ["b"]], pa.list_(pa.string()), "public.parquet: column 'text' holds list<"),
        ([["a"], ["b"]], pa.large_list(pa.string()), "public.parquet: column 'text' holds large_list<"),
        ([["a"], ["b"]], pa.list_(pa.string(), 1), "public.parquet: column 'text' holds fixed_size_list<"),
        (["", " "], None, "public.parquet: holds no text"),
    ],
)
def test_a_parquet_file_without_texts_is_named_with_its_row(tmp_path, values, kind, says):
    path = table(tmp_path / "public.parquet", values, kind)
    with pytest.raises(DataError) as caught:
        read_texts(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_with_two_such_columns_is_refused(tmp_path):
    columns = [pa.array(["a"]), pa.array(["b"])]
    parquet.write_table(pa.Table.from_arrays(columns, names=["text", "text"]), tmp_path / "public.parquet")
    with pytest.raises(DataError, match="has several columns 'text'; rename all but the one with texts"):
        read_texts(tmp_path / "public.parquet")


def test_a_row_of_a_parquet_file_that_is_no_utf_8_is_named(tmp_path):
    broken = pa.array([b"a", b"b", b"\xff"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": broken}), tmp_path / "public.parquet")
    with pytest.raises(DataError, match=r"public\.parquet: row 3: 'text' is missing, not UTF-8"):
        read_texts(tmp_path / "public.parquet")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: b"text", "no Parquet, or damaged"),
        (lambda content: content[:-20], "no Parquet, or damaged"),
        (
            lambda content: content[:150_000] + bytes(9000) + content[159_000:],
            "behind row [0-9]+: no Parquet",
        ),
        (lambda content: content.replace(b"text", b"word"), "has no column 'text', only label, word"),
    ],
)
def test_a_damaged_parquet_file_is_named_in_one_line(tmp_path, damage, says):
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(3000)]
    path = table(
        tmp_path / "public.parquet",
        texts,
        row_group_size=1000,
        use_dictionary=False,
        write_page_checksum=True,
    )
    assert path.stat().st_size > 170_000
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"public.parquet: {says}") as caught:
        read_texts(path)
    assert "\n" not in str(caught.value)


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    path = table(tmp_path / "public.parquet", ["a"])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        DataError, match=r"needs pyarrow, which is not installed: pip install promptferry\[parquet\]"
    ):
        read_texts(path)
