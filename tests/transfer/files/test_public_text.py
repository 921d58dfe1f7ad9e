import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from transfer.errors import DataError
from transfer.files.public_text import PublicText, digest_of, read_texts
from transfer.files.text import NotTextError, decoded, lines, lines_in


def written(directory, name, content):
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_txt_file_holds_one_text_a_line(tmp_path):
    path = written(tmp_path, "public.txt", "first\n\n  second  \r\nthird")
    assert read_texts(path) == ["first", "second", "third"]


def test_a_jsonl_file_is_read_for_its_texts_and_never_for_labels(tmp_path):
    path = written(tmp_path, "public.jsonl", '{"text": "a", "label": [1]}\n\n{"label": 0, "text": " b "}\n')
    assert read_texts(path) == ["a", "b"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85"])
def test_only_a_newline_ends_a_line(tmp_path, mark):
    assert read_texts(written(tmp_path, "public.txt", f"one{mark}line\nother")) == [f"one{mark}line", "other"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\x1a"), min_size=1))
)
def test_every_text_comes_back_stripped(tmp_path_factory, texts):
    path = written(tmp_path_factory.mktemp("texts"), "public.txt", "\n".join(["least", *texts]))
    assert read_texts(path) == ["least", *(text.strip() for text in texts if text.strip())]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("public.csv", "text\na", "must be .jsonl, .txt or .parquet"),
        ("public.txt", "", "holds no text"),
        ("public.txt", " \n\t\n", "holds no text"),
        ("public.txt", b"ok\n\xff", ":2: not UTF-8: save the file as UTF-8"),
        ("public.jsonl", '{"text": "a"}\n{"text": "b"', ":2: not a JSON object"),
        ("public.jsonl", '{"text": "a"}\n\n["b"]', ":3: field 'text' is missing"),
        ("public.jsonl", '{"words": "a"}', ":1: field 'text' is missing"),
        ("public.jsonl", '{"text": 7}', ":1: field 'text' is missing or not a string"),
        ("public.jsonl", '{"text": "a"}\n{"text": "b\\u0000c"}', ":2: field 'text' has a NUL character"),
        ("public.jsonl", '{"text": " "}', "holds no text"),
    ],
)
def test_a_file_that_is_not_text_is_named_in_one_line(tmp_path, name, content, says):
    path = written(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_texts(path)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.txt", "missing.parquet"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: cannot read: No such file"):
        read_texts(tmp_path / name)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [b"a", b"\r", b"\n", b"\x1a", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9", b"\xff", b"\0", b"\x0b"]
        )
    ).map(b"".join)
)
def test_a_file_is_read_line_by_line_as_it_would_be_whole(tmp_path_factory, content):
    path = written(tmp_path_factory.mktemp("lines"), "public.txt", content)
    try:
        whole = lines(decoded(content))
    except NotTextError:
        with pytest.raises(NotTextError):
            list(lines_in(path))
    else:
        assert list(lines_in(path)) == (whole if whole[-1] or content.endswith(b"\x1a") else whole[:-1])


def test_a_line_end_may_stand_across_two_reads(tmp_path):
    texts = ["x" * count for count in (8191, 8190, 1, 70_000)]
    assert read_texts(written(tmp_path, "public.txt", "\r\n".join(texts))) == texts


@pytest.fixture
def folder(tmp_path):
    """Three kinds of files in two directories, and what is no text."""
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    written(tmp_path, "c.txt", "fourth")
    written(tmp_path, "a.jsonl", '{"text": "first"}')
    written(tmp_path / "b", "2.txt", "third")
    parquet.write_table(pa.table({"text": ["second"]}), tmp_path / "b" / "1.parquet")
    for about in ("SOURCE.txt", "README.md", "License", "b/readme.TXT", ".hidden.txt", ".git/config"):
        written(tmp_path, about, "not text")
    return tmp_path


def test_a_directory_is_read_by_name_without_what_is_hidden_or_tells_about_it(folder):
    assert read_texts(folder) == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize("name", ["data.csv", "b/_SUCCESS", "source.json"])
def test_a_directory_with_anything_else_is_refused_by_its_name(folder, name):
    path = written(folder, name, "{}")
    with pytest.raises(DataError) as caught:
        read_texts(folder)
    assert str(caught.value) == (
        f"{path}: public text must be .jsonl, .txt or .parquet; convert the file, or move it away"
    )


def test_links_to_files_are_read_and_those_to_directories_refused(folder):
    (folder / "d.txt").symlink_to(folder / "c.txt")
    assert read_texts(folder)[-1] == "fourth"
    (folder / "b" / "up").symlink_to(folder)
    with pytest.raises(DataError) as caught:
        read_texts(folder)
    assert str(caught.value).startswith(f"{folder / 'b' / 'up'}: public text must be")


def test_a_directory_without_texts_is_named(tmp_path):
    written(tmp_path, "SOURCE.txt", "where it is from")
    with pytest.raises(DataError, match="holds no text"):
        read_texts(tmp_path)


def test_public_text_is_counted_and_read_again_and_again(folder):
    text = PublicText.of(folder)
    assert (len(text), list(text), list(text)) == (4, read_texts(folder), read_texts(folder))
    assert text.digest == hashlib.sha256("\0".join(text).encode()).hexdigest()
    assert PublicText.of(list(text)).digest == text.digest


@pytest.mark.parametrize("change", ["other", "fourth\nfifth"])
def test_public_text_that_changes_meanwhile_is_noticed(folder, change):
    text = PublicText.of(folder)
    written(folder, "c.txt", change)
    with pytest.raises(DataError, match="changed while it was read"):
        list(text)


def test_the_digest_is_that_of_the_file_or_of_the_list_of_files(folder):
    assert digest_of(folder / "c.txt") == hashlib.sha256(b"fourth").hexdigest()
    before = digest_of(folder)
    written(folder, "README.md", "another")
    assert digest_of(folder) == before
    (folder / "c.txt").rename(folder / "d.txt")
    assert digest_of(folder) != before
    with pytest.raises(DataError, match="cannot read"):
        digest_of(folder / "c.txt")
