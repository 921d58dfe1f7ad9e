"""Public text, for distilling proxies and transferring prompts. Its labels are never read."""

from pathlib import Path

from transfer.errors import DataError
from transfer.files.text import MALFORMED, NotTextError, decoded, is_unicode, json_lines, lines


def read_texts(path: Path) -> list[str]:
    """Read the texts of a .jsonl file (field `text`) or of a .txt file (one per line), without empty ones.

    Raises:
        DataError: the file is missing, has another kind, is not UTF-8 or malformed, or holds no text.
    """
    kind = path.suffix.lower()
    if kind not in {".jsonl", ".txt"}:
        raise DataError(f"{path}: public text must be .jsonl or .txt; convert the file")
    try:
        content = decoded(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    except NotTextError as error:
        raise DataError(error.of(path)) from error
    if kind == ".jsonl":
        texts = [_text(f"{path}:{number}", record) for number, record in json_lines(content)]
    else:
        texts = lines(content)
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{path}: holds no text; at least one line must have some")
    return texts


def _text(place: str, record: object) -> str:
    if record is MALFORMED:
        raise DataError(f'{place}: not a JSON object; write one per line: {{"text": …}}')
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise DataError(f"{place}: field 'text' is missing or not a string")
    text: str = record["text"]
    if not is_unicode(text):
        raise DataError(f"{place}: field 'text': half of a surrogate pair: not valid Unicode")
    return text
