"""Public text: what proxies are distilled on and prompts are transferred with. Labels are never read."""

import json
from pathlib import Path

from transfer.errors import DataError


def read_texts(path: Path) -> list[str]:
    """Texts of a .jsonl file (field `text`) or of a .txt file (one a line); empty ones are left out.

    Raises:
        DataError: the file is missing, not UTF-8, of another kind, malformed, or holds no text.
    """
    if path.suffix not in {".jsonl", ".txt"}:
        raise DataError(f"{path}: public text must be .jsonl or .txt")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also break at U+2028
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8") from error
    if path.suffix == ".jsonl":
        texts = [_text(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        texts = lines
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise DataError(f"{path}: holds no text")
    return texts


def _text(path: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: not a JSON object: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise DataError(f"{path}:{number}: field 'text' is missing or not a string")
    return str(record["text"])
