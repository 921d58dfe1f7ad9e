"""What tests of this room share."""

import codecs
from pathlib import Path

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
