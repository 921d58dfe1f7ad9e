"""What Windows and Excel write is read as what was meant, or refused with how to save it."""

import codecs
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.private.records import MOST_FAULTS, examine, read
from client.remote import publisher_key
from client.vault import vault
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from tests.client.private.sheets import ENDS, LABELS, ROWS, csv_of, saved
from transfer.errors import DataError, UsageError
from transfer.files.public_text import read_texts


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
    told = "1: field 'text': the header must name it once (text,label); it has 3 columns, separated by semicolons"
    assert str(caught.value) == f"{path}:{told}"


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
    assert (len(told), found.more_faults) == (MOST_FAULTS, 34 - MOST_FAULTS)


def test_a_public_text_reads_what_private_text_does(tmp_path):
    for end in ENDS.values():
        assert read_texts(saved(tmp_path / "A.TXT", "one\ntwo\n", end)) == ["one", "two"]
        lines = '{"text": "one", "n": 1e999, "m": ' + "9" * 5000 + '}\n{"text": "two"}\n'
        assert read_texts(saved(tmp_path / "a.Jsonl", lines, end)) == ["one", "two"]


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
