import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.errors import DataError
from transfer.files.public_text import read_texts


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
        ("public.csv", "text\na", "must be .jsonl or .txt"),
        ("public.txt", "", "holds no text"),
        ("public.txt", " \n\t\n", "holds no text"),
        ("public.txt", b"ok\n\xff", ":2: not UTF-8: save the file as UTF-8"),
        ("public.jsonl", '{"text": "a"}\n{"text": "b"', ":2: not a JSON object"),
        ("public.jsonl", '{"text": "a"}\n\n["b"]', ":3: field 'text' is missing"),
        ("public.jsonl", '{"words": "a"}', ":1: field 'text' is missing"),
        ("public.jsonl", '{"text": 7}', ":1: field 'text' is missing or not a string"),
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


@pytest.mark.parametrize("name", ["missing.txt", "folder.txt"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path, name):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DataError, match=f"{name}: cannot read"):
        read_texts(tmp_path / name)
