"""Text as people's programs write it: UTF-8 with or without a byte order mark, lines ended in any of three ways.

What is not UTF-8 is refused with how to save it. Nothing here quotes the text, nor does an exception carry it, so
that private text may be read by it as well.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MALFORMED = object()
"""Stands for the value of a line that is not JSON."""

_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_LINE_END = re.compile("\r\n|\r|\n")
_LINE_END_BYTES = re.compile(b"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotTextError(ValueError):
    """Bytes that are no text: `line` by number, 0 where it is the whole file, and `rule`, how to mend it."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line, self.rule = line, rule

    def of(self, path: object) -> str:
        """The message for a file."""
        return f"{path}:{self.line}: {self.rule}" if self.line else f"{path}: {self.rule}"


@dataclass(frozen=True, slots=True)
class Number:
    """A number in JSON, as it is spelt: of any size, and 1.0 is not 1."""

    spelt: str


def decoded(content: bytes) -> str:
    """The text in `content`, line ends as they are, without a byte order mark.

    Raises:
        NotTextError: it is UTF-16, not UTF-8, or holds a NUL byte.
    """
    if is_utf_16(content):
        raise NotTextError(0, 'UTF-16: save the file as UTF-8 (in Excel as "CSV UTF-8")')
    content = content.removeprefix(codecs.BOM_UTF8).removesuffix(b"\x1a")  # what DOS ended a file with
    if b"\0" in content:
        line = _line(content, content.index(b"\0"))
        raise NotTextError(line, "a NUL byte, so no text or UTF-16: save the file as UTF-8")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = _line(content, error.start)
    raise NotTextError(line, "not UTF-8: save the file as UTF-8")  # not above: the other carries the content


def is_utf_16(content: bytes) -> bool:
    """Whether `content` starts as Windows' "Unicode" text does; random bytes hardly ever do."""
    return content.startswith(_UTF_16) and (len(content) == len(codecs.BOM_UTF16_LE) or b"\0" in content)


def lines(text: str) -> list[str]:
    """Lines of `text`, ended by CR LF, LF or CR. Not `splitlines`, which also ends them at U+2028 and others."""
    return _LINE_END.split(text)


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Number and value of each line that is not blank; `MALFORMED` where it is not JSON.

    A number is a `Number`. A byte order mark in mid-file is left out: it comes of joining files.
    """
    for number, line in enumerate(lines(text), start=1):
        if line := line.strip().removeprefix("\ufeff").strip():
            yield number, _parsed(line)


def is_unicode(text: str) -> bool:
    """Whether `text` is free of surrogates, which JSON can spell and nothing can write."""
    return _SURROGATE.search(text) is None


def toml(content: bytes) -> dict[str, Any]:
    """Tables of a TOML file.

    Raises:
        NotTextError: it is no text, or not TOML.
    """
    text = "\n".join(lines(decoded(content)))
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise NotTextError(0, "not TOML: nested too deeply") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise NotTextError(0, f"not TOML: {error}") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, parse_int=Number, parse_float=Number)
    except (ValueError, RecursionError):
        return MALFORMED


def _line(content: bytes, position: int) -> int:
    return len(_LINE_END_BYTES.findall(content, 0, position)) + 1
